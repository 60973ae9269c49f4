// libpcre2-8, for the patterns of tokenizers. Its functions have the width of a character in their names by macros, which Swift does not see.
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

typedef pcre2_code ress_pcre_code;
typedef pcre2_match_data ress_pcre_match;
typedef pcre2_match_context ress_pcre_context;

static inline ress_pcre_code *ress_pcre_compile(const uint8_t *pattern, size_t count, int *error, size_t *place) {
  // Newlines are LF alone, as in Oniguruma. Subjects are checked by the caller.
  pcre2_compile_context *context = pcre2_compile_context_create(NULL);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_max_pattern_length(context, 1 << 16);
  pcre2_set_parens_nest_limit(context, 100);
  pcre2_code *code = pcre2_compile(
      pattern, count, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, error, place, context);
  pcre2_compile_context_free(context);
  return code;
}

static inline void ress_pcre_free(ress_pcre_code *code) { pcre2_code_free(code); }

/// Characters before a match that the pattern may look at.
static inline uint32_t ress_pcre_lookbehind(const ress_pcre_code *code) {
  uint32_t count = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MAXLOOKBEHIND, &count);
  return count;
}

static inline ress_pcre_match *ress_pcre_match_create(const ress_pcre_code *code) {
  return pcre2_match_data_create_from_pattern(code, NULL);
}
static inline void ress_pcre_match_free(ress_pcre_match *match) { pcre2_match_data_free(match); }
static inline ress_pcre_context *ress_pcre_context_create(void) { return pcre2_match_context_create(NULL); }
static inline void ress_pcre_context_free(ress_pcre_context *context) { pcre2_match_context_free(context); }

/// Searches from `start`. `steps` is the limit of matching attempts from one place, `kibibytes` that of memory.
static inline int ress_pcre_search(
    const ress_pcre_code *code, const uint8_t *text, size_t count, size_t start, int isAnchored, int isPartial, uint32_t steps,
    uint32_t kibibytes, ress_pcre_match *match, ress_pcre_context *context) {
  pcre2_set_match_limit(context, steps);
  pcre2_set_heap_limit(context, kibibytes);
  uint32_t options = PCRE2_NO_UTF_CHECK | (isAnchored ? PCRE2_ANCHORED : 0) | (isPartial ? PCRE2_PARTIAL_HARD : 0);
  return pcre2_match(code, text, count, start, options, match, context);
}

static inline size_t ress_pcre_match_start(ress_pcre_match *match) { return pcre2_get_ovector_pointer(match)[0]; }
static inline size_t ress_pcre_match_end(ress_pcre_match *match) { return pcre2_get_ovector_pointer(match)[1]; }
static inline int ress_pcre_error_text(int code, uint8_t *text, size_t room) { return pcre2_get_error_message(code, text, room); }

static inline int ress_pcre_no_match(void) { return PCRE2_ERROR_NOMATCH; }
static inline int ress_pcre_partial(void) { return PCRE2_ERROR_PARTIAL; }
static inline int ress_pcre_match_limit(void) { return PCRE2_ERROR_MATCHLIMIT; }
