// No exception may cross into Swift, so each function catches all of them (std::bad_alloc is the only one that the library throws).
#include "ress_sentencepiece.h"

#include <sentencepiece_processor.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

struct ress_pieces {
  sentencepiece::SentencePieceProcessor processor;
};

static absl::string_view view(const uint8_t *bytes, size_t count) {
  return absl::string_view(reinterpret_cast<const char *>(bytes), count);
}

extern "C" ress_pieces *ress_pieces_load(const uint8_t *bytes, size_t count, char *error, size_t room) {
  try {
    auto pieces = std::make_unique<ress_pieces>();
    auto status = pieces->processor.LoadFromSerializedProto(view(bytes, count));
    if (status.ok()) return pieces.release();
    std::snprintf(error, room, "%s", status.ToString().c_str());
  } catch (const std::exception &problem) {
    std::snprintf(error, room, "%s", problem.what());
  }
  return nullptr;
}

extern "C" void ress_pieces_free(ress_pieces *pieces) { delete pieces; }

extern "C" int ress_pieces_encode(
    const ress_pieces *pieces, const uint8_t *text, size_t count, void (*take)(void *, const int32_t *, size_t), void *context) {
  try {
    std::vector<int> tokens;
    if (!pieces->processor.Encode(view(text, count), &tokens).ok()) return 0;
    take(context, tokens.data(), tokens.size());
    return 1;
  } catch (const std::exception &) {
    return 0;
  }
}

extern "C" int ress_pieces_encode_ends(
    const ress_pieces *pieces, const uint8_t *text, size_t count,
    void (*take)(void *, const int32_t *, const uint32_t *, size_t), void *context) {
  try {
    auto result = pieces->processor.EncodeAsImmutableProto(view(text, count));
    std::vector<int> tokens;
    std::vector<uint32_t> ends;
    for (size_t i = 0; i < result.pieces_size(); ++i) {
      tokens.push_back(static_cast<int>(result.pieces(static_cast<int>(i)).id()));
      ends.push_back(result.pieces(static_cast<int>(i)).end());
    }
    take(context, tokens.data(), ends.data(), tokens.size());
    return 1;
  } catch (const std::exception &) {
    return 0;
  }
}
