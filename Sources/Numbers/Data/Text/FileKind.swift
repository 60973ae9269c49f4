// Recognises the kind of a file by its first bytes: compressed, a kind that is not text, or text in UTF-16. File
// names are not reliable: the rows of C4 are called .json.gz, and a picture among books may have any name.

/// A compression that is undone while reading.
enum Packing: String, CaseIterable {
  case gzip, zstd, xz, bzip2, lz4

  /// The usual file name extensions.
  var endings: [String] {
    switch self {
    case .gzip: [".gz"]
    case .zstd: [".zst"]
    case .xz: [".xz", ".lzma"]
    case .bzip2: [".bz2"]
    case .lz4: [".lz4"]
    }
  }

  /// - Parameter bytes: the first bytes of a file.
  init?(_ bytes: some Sequence<UInt8>) {
    var bytes = Array(bytes.prefix(1 << 12))
    // pzstd writes skippable frames first. zstd and lz4 have the same magic numbers for them.
    while bytes.count >= 8, bytes[0] & 0xF0 == 0x50, bytes[1...3].elementsEqual([0x2A, 0x4D, 0x18]) {
      let size = bytes[4..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
      // The next frame is beyond the bytes at hand. zstd is assumed, because lz4 files with such frames are rare.
      guard 8 + size + 4 <= bytes.count else {
        self = .zstd
        return
      }
      bytes.removeFirst(8 + size)
    }
    if bytes.starts(with: [0x1F, 0x8B]) {
      self = .gzip
    } else if bytes.starts(with: [0x28, 0xB5, 0x2F, 0xFD]) {
      self = .zstd
    } else if bytes.starts(with: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00]) || Packing.isLZMA(bytes) {
      self = .xz
    } else if bytes.starts(with: Array("BZh".utf8)), bytes.count >= 10, (0x31...0x39).contains(bytes[3]),
      // A block, or the end marker of an empty file.
      bytes[4..<10].elementsEqual([0x31, 0x41, 0x59, 0x26, 0x53, 0x59])
        || bytes[4..<10].elementsEqual([0x17, 0x72, 0x45, 0x38, 0x50, 0x90])
    {
      self = .bzip2
    } else if bytes.starts(with: [0x04, 0x22, 0x4D, 0x18]) {
      self = .lz4
    } else {
      return nil
    }
  }

  /// The .lzma format that preceded xz: properties, dictionary size, and the length, which is −1 where it was not
  /// known.
  private static func isLZMA(_ bytes: [UInt8]) -> Bool {
    guard bytes.count >= 13, bytes[0] == 0x5D, bytes[1] == 0, bytes[2] == 0 else { return false }
    return bytes[5..<13].allSatisfy { $0 == 0xFF } || bytes[10..<13].allSatisfy { $0 == 0 }
  }
}

/// A kind of file that is not text, with advice for the user.
struct ForeignKind: Equatable {
  let name: String
  let advice: String

  private static func unpack(_ command: String) -> String { "unpack it first: \(command)" }
  private static let convert =
    "convert it to rows: python3 -m ress.convert FILE --out FILE.jsonl.gz (the package in python/, with its extra 'arrow')"
  private static let leaveOut = "leave it out"
  private static let toRows = "convert it to JSON, one object a line"

  /// Nil where the bytes are not of a known kind, so that they may be text.
  static func of(_ bytes: [UInt8]) -> ForeignKind? {
    func begins(_ magic: [UInt8], at place: Int = 0) -> Bool {
      bytes.count >= place + magic.count && bytes[place..<place + magic.count].elementsEqual(magic)
    }
    func begins(_ text: String, at place: Int = 0) -> Bool { begins(Array(text.utf8), at: place) }
    /// Letters alone may begin a text as well; a control or non-ASCII byte after them shows that it is not one.
    func isBinary(at place: Int) -> Bool {
      bytes.count > place && (bytes[place] < 0x09 || (0x0E..<0x20).contains(bytes[place]) || bytes[place] >= 0x7F)
    }
    if begins("PAR1"), isBinary(at: 4) { return ForeignKind(name: "a Parquet file", advice: convert) }
    if begins("ARROW1\0\0") || begins([0xFF, 0xFF, 0xFF, 0xFF]) && isBinary(at: 7) || begins("FEA1\0") {
      return ForeignKind(name: "an Arrow file", advice: convert)
    }
    if begins([0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]) {
      return ForeignKind(
        name: "an HDF5 file, as datasets of ress are", advice: "name the text that it was made of")
    }
    if begins("ustar", at: 257) { return ForeignKind(name: "a tar archive", advice: unpack("tar -xf FILE")) }
    if begins([0x50, 0x4B, 0x03, 0x04]) || begins([0x50, 0x4B, 0x05, 0x06]) {
      return ForeignKind(name: "a zip archive (or a document or a model that is one)", advice: unpack("unzip FILE"))
    }
    if begins([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]) {
      return ForeignKind(name: "a 7z archive", advice: unpack("7z x FILE"))
    }
    if begins("Rar!\u{1A}\u{07}") { return ForeignKind(name: "a rar archive", advice: unpack("unrar x FILE")) }
    if begins([0x02, 0x21, 0x4C, 0x18]) {
      return ForeignKind(name: "an lz4 file of the old format", advice: unpack("lz4 -d FILE"))
    }
    if begins([0x1F, 0x9D]) { return ForeignKind(name: "a compress file", advice: unpack("gzip -d FILE")) }
    if begins([0x89, 0x4C, 0x5A, 0x4F, 0x00]) {
      return ForeignKind(name: "an lzop file", advice: unpack("lzop -d FILE"))
    }
    if begins("LZIP"), bytes.count > 4, bytes[4] <= 1 {
      return ForeignKind(name: "an lzip file", advice: unpack("lzip -d FILE"))
    }
    if begins([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) || begins([0xFF, 0xD8, 0xFF]) || begins("GIF87a")
      || begins("GIF89a") || begins("RIFF") && begins("WEBP", at: 8) || begins([0x49, 0x49, 0x2A, 0x00])
      || begins([0x4D, 0x4D, 0x00, 0x2A])
    {
      return ForeignKind(name: "a picture", advice: leaveOut)
    }
    if begins("RIFF") && isBinary(at: 7) || begins("OggS\0") || begins("fLaC\0") || begins("ID3") && isBinary(at: 3)
      || begins("ftyp", at: 4) && isBinary(at: 0) || begins([0x1A, 0x45, 0xDF, 0xA3])
    {
      return ForeignKind(name: "an audio or video file", advice: leaveOut)
    }
    if begins("%PDF-") { return ForeignKind(name: "a PDF document", advice: "take its text: pdftotext FILE FILE.txt") }
    if begins([0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1]) {
      return ForeignKind(name: "an old Office document", advice: "save it as plain text")
    }
    if begins("SQLite format 3\0") { return ForeignKind(name: "an SQLite database", advice: toRows) }
    if begins([0x4F, 0x62, 0x6A, 0x01]) { return ForeignKind(name: "an Avro file", advice: toRows) }
    if begins("ORC"), isBinary(at: 3) { return ForeignKind(name: "an ORC file", advice: toRows) }
    if begins([0x93] + Array("NUMPY".utf8)) { return ForeignKind(name: "a NumPy array", advice: leaveOut) }
    if begins([0x80]), bytes.count > 2, (2...5).contains(bytes[1]), begins([0x95], at: 2) || begins([0x7D], at: 2) {
      return ForeignKind(name: "a Python pickle", advice: toRows)
    }
    if begins("{\"", at: 8), bytes[5..<8].allSatisfy({ $0 == 0 }) {
      return ForeignKind(name: "a safetensors file", advice: leaveOut)
    }
    if begins("GGUF"), isBinary(at: 4) { return ForeignKind(name: "a GGUF model", advice: leaveOut) }
    if begins([0x7F] + Array("ELF".utf8)) { return ForeignKind(name: "a program", advice: leaveOut) }
    if begins([0xFF, 0xFE, 0x00, 0x00]) || begins([0x00, 0x00, 0xFE, 0xFF]) {
      return ForeignKind(name: "text in UTF-32", advice: "convert it: iconv -f UTF-32 -t UTF-8 FILE > NEW")
    }
    if begins([0xFF, 0xFE]) || begins([0xFE, 0xFF]) {
      return ForeignKind(name: "text in UTF-16", advice: "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW")
    }
    return nil
  }
}
