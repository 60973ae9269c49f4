// A tokenizer of SentencePiece, as Llama 2, T5 and Gemma have: a vocabulary of pieces of text, in which U+2581 stands
// for a space. Kudo and Richardson, arXiv 1808.06226. SentencePiece's library encodes (Debian's libsentencepiece);
// decoding is done here, piece by piece, because text is also written token by token.

import CSentencePiece

/// A model. It is immutable, so threads can share it.
package final class SentencePieces: @unchecked Sendable {
  /// The file, byte by byte.
  let file: [UInt8]
  private let model: SentencePieceFile
  private let handle: OpaquePointer
  /// Whether a text may be cut before a single space between two ASCII letters or digits.
  let canBeCutAtSpaces: Bool

  /// - Throws: where the file is damaged, or the library refuses it.
  package init(_ file: [UInt8], path: String) throws(TokenizerError) {
    self.file = file
    do throws(SentencePieceFile.Problem) { model = try SentencePieceFile(file) } catch {
      throw .file(path: path, problem: error.text)
    }
    canBeCutAtSpaces = Self.canBeCutAtSpaces(model)
    var reason = [CChar](repeating: 0, count: 512)
    guard let handle = ress_pieces_load(file, file.count, &reason, reason.count) else {
      let text = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      throw .file(path: path, problem: "SentencePiece's library refuses it: \(text)")
    }
    self.handle = handle
  }

  deinit { ress_pieces_free(handle) }

  package var vocabulary: Int { model.pieces.count }

  /// The token that precedes each document: that of the beginning of a text, or else that of its end.
  var separator: Int32? { control(model.firstPiece) ?? control(model.lastPiece) }

  private func control(_ text: [UInt8]) -> Int32? {
    model.pieces.firstIndex { $0.kind == .control && $0.text == text }.map { Int32($0) }
  }

  /// Tokens that represent no text.
  var specials: [(text: String, token: Int32)] {
    model.pieces.enumerated().filter { $0.element.kind == .control || $0.element.kind == .unknown }.map {
      (String(decoding: $0.element.text, as: UTF8.self), Int32($0.offset))
    }
  }

  /// Whether it puts a space before a text, so that a word is the same token at the beginning and later.
  var addsSpace: Bool { model.addsDummyPrefix && !model.spaceIsSuffix }

  // MARK: Encoding

  /// Appends the tokens of a text. Returns whether that succeeded.
  /// - Parameter continues: whether the text follows another one. Then a space at its beginning is the one that the
  ///   model puts before a text by itself.
  func encode(_ text: UnsafeBufferPointer<UInt8>, continues: Bool, into tokens: inout [Int32]) -> Bool {
    let text = Self.inside(text, dropsSpace: continues && addsSpace)
    guard !text.isEmpty else { return true }
    return withUnsafeMutablePointer(to: &tokens) { tokens in
      ress_pieces_encode(
        handle, text.baseAddress, text.count,
        { context, made, count in
          context!.assumingMemoryBound(to: [Int32].self).pointee += UnsafeBufferPointer(start: made, count: count)
        }, tokens) == 1
    }
  }

  /// The same, with the offset in the text at which each token ends.
  func encode(_ text: UnsafeBufferPointer<UInt8>, into tokens: inout [Int32], ends: inout [Int]) -> Bool {
    guard !text.isEmpty else { return true }
    var made: [(token: Int32, end: Int)] = []
    let isDone = withUnsafeMutablePointer(to: &made) { made in
      ress_pieces_encode_ends(
        handle, text.baseAddress, text.count,
        { context, tokens, ends, count in
          for place in 0..<count {
            context!.assumingMemoryBound(to: [(token: Int32, end: Int)].self).pointee
              .append((tokens![place], Int(ends![place])))
          }
        }, made) == 1
    }
    tokens += made.map(\.token)
    ends += made.map(\.end)
    return isDone
  }

  private static func inside(_ text: UnsafeBufferPointer<UInt8>, dropsSpace: Bool) -> UnsafeBufferPointer<UInt8> {
    dropsSpace && text.first == 0x20 ? UnsafeBufferPointer(rebasing: text.dropFirst()) : text
  }

  // MARK: Decoding

  /// The bytes that a token represents after other text; none for control tokens and for numbers outside of the
  /// vocabulary.
  func bytes(of token: Int32) -> [UInt8] {
    guard model.pieces.indices.contains(Int(token)) else { return [] }
    let piece = model.pieces[Int(token)]
    switch piece.kind {
    case .control: return []
    case .unknown: return model.unknownText
    case .byte: return SentencePieceFile.byte(piece.text).map { [$0] } ?? []
    case .normal, .userDefined, .unused: return Self.spaced(piece.text)
    }
  }

  private static func spaced(_ text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = [], place = 0
    while place < text.count {
      if text[place...].starts(with: SentencePieceFile.space) {
        result.append(0x20)
        place += 3
      } else {
        result.append(text[place])
        place += 1
      }
    }
    return result
  }

  /// The text of tokens that are a text from its beginning: without the space that the model put before it.
  package func wholeText(_ tokens: some Sequence<Int32>) -> [UInt8] {
    var text: [UInt8] = [], mayDrop = model.addsDummyPrefix || model.removesExtraSpaces
    for token in tokens {
      var bytes = bytes(of: token)
      if mayDrop, kind(of: token) != .byte, kind(of: token) != .unknown, bytes.first == 0x20 {
        bytes.removeFirst()
        // Where extra spaces are removed, all of them at the beginning are.
        mayDrop = model.removesExtraSpaces && bytes.isEmpty && text.isEmpty
      } else if !bytes.isEmpty {
        mayDrop = false
      }
      text += bytes
    }
    return text
  }

  private func kind(of token: Int32) -> SentencePieceFile.Kind? {
    model.pieces.indices.contains(Int(token)) ? model.pieces[Int(token)].kind : nil
  }

  // MARK: Cuts

  /// Whether a text may be cut before a single space between two ASCII letters or digits, and the second part be
  /// encoded with `continues`: no piece and no replacement of characters may reach across such a place.
  private static func canBeCutAtSpaces(_ model: SentencePieceFile) -> Bool {
    guard !model.spaceIsSuffix, model.escapesSpaces, model.addsDummyPrefix || !model.removesExtraSpaces,
      model.pieces.contains(where: { $0.kind == .normal && $0.text == SentencePieceFile.space })
    else { return false }
    let plain = Array(0x30...0x39) + Array(0x41...0x5A) + Array(0x61...0x7A) as [UInt8]
    for letter in plain {
      if model.replacements.begins(with: [letter, 0x20]) || model.replacements.begins(with: [0x20, letter]) {
        return false
      }
    }
    return !model.pieces.contains { piece in
      piece.text.indices.dropFirst().contains {
        piece.text[$0...].starts(with: SentencePieceFile.space) && plain.contains(piece.text[$0 - 1])
      }
    }
  }
}
