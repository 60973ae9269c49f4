// SentencePiece's C++ library as C functions, which Swift can call: load a model, encode a text.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ress_pieces ress_pieces;

/// Loads the bytes of a model. Returns NULL where the library refuses them, and the reason in `error` (`room` bytes, with a final zero).
/// The caller must have checked the model: the library trusts some offsets in it.
ress_pieces *ress_pieces_load(const uint8_t *bytes, size_t count, char *error, size_t room);
void ress_pieces_free(ress_pieces *pieces);

/// Encodes a text, and calls `take` once, with the numbers of its pieces. Several threads may use one model. Returns whether it succeeded.
int ress_pieces_encode(
    const ress_pieces *pieces, const uint8_t *text, size_t count,
    void (*take)(void *context, const int32_t *tokens, size_t count), void *context);

/// The same, with the offset in the text at which each piece ends.
int ress_pieces_encode_ends(
    const ress_pieces *pieces, const uint8_t *text, size_t count,
    void (*take)(void *context, const int32_t *tokens, const uint32_t *ends, size_t count), void *context);

#ifdef __cplusplus
}
#endif
