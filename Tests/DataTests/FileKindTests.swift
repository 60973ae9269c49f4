// The kinds of files, recognised by their bytes: compressed ones are unpacked, foreign ones are refused, rows may
// have any name.

import CBZip2
import CLZ4
import CLZMA
import CZstd
import Foundation
import HDF5
import Testing

import Data

@Suite final class `Kinds of files` {
  private let folder = NSTemporaryDirectory() + "ress-kinds-" + UUID().uuidString

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private func path(_ name: String) -> String { folder + "/" + name }
  private func write(_ name: String, _ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(filePath: path(name))) }

  private func read(_ name: String, _ change: (inout SourceOptions) -> Void = { _ in }) throws -> [String] {
    try readDocuments(folder + "/" + name, change)
  }

  private func complaint(_ name: String, _ change: (inout SourceOptions) -> Void = { _ in }) -> String {
    do { _ = try read(name, change) } catch { return "\(error)".replacing(folder + "/", with: "") }
    return "no error"
  }

  // MARK: Compression

  enum Pack: String, CaseIterable, Sendable {
    case gzip, zstd, xz, lzma, bzip2, lz4

    func callAsFunction(_ bytes: [UInt8]) throws -> [UInt8] {
      var packed = [UInt8](repeating: 0, count: bytes.count * 2 + 4096)
      switch self {
      case .gzip:
        let process = Process(), input = Pipe(), output = Pipe()
        process.executableURL = URL(filePath: "/bin/gzip")
        (process.standardInput, process.standardOutput) = (input, output)
        try process.run()
        let sender = Thread {
          try? input.fileHandleForWriting.write(contentsOf: Data(bytes))
          try? input.fileHandleForWriting.close()
        }
        sender.start()
        return Array(output.fileHandleForReading.readDataToEndOfFile())
      case .zstd:
        let count = ZSTD_compress(&packed, packed.count, bytes, bytes.count, 3)
        return Array(packed[..<count])
      case .xz:
        var count = 0
        #expect(
          lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nil, bytes, bytes.count, &packed, &count, packed.count)
            == LZMA_OK)
        return Array(packed[..<count])
      case .lzma:
        var options = lzma_options_lzma(), stream = lzma_stream()
        lzma_lzma_preset(&options, 6)
        #expect(lzma_alone_encoder(&stream, &options) == LZMA_OK)
        return bytes.withUnsafeBufferPointer { input in
          packed.withUnsafeMutableBufferPointer { output in
            (stream.next_in, stream.avail_in) = (input.baseAddress, input.count)
            (stream.next_out, stream.avail_out) = (output.baseAddress, output.count)
            #expect(lzma_code(&stream, LZMA_FINISH) == LZMA_STREAM_END)
            lzma_end(&stream)
            return Array(output[..<(output.count - stream.avail_out)])
          }
        }
      case .bzip2:
        var count = UInt32(packed.count), bytes = bytes
        bytes.withUnsafeMutableBytes { input in
          packed.withUnsafeMutableBytes { output in
            #expect(
              BZ2_bzBuffToBuffCompress(
                output.baseAddress!.assumingMemoryBound(to: CChar.self), &count,
                input.baseAddress!.assumingMemoryBound(to: CChar.self), UInt32(input.count), 9, 0, 0) == BZ_OK)
          }
        }
        return Array(packed[..<Int(count)])
      case .lz4:
        let count = LZ4F_compressFrame(&packed, packed.count, bytes, bytes.count, nil)
        #expect(LZ4F_isError(count) == 0)
        return Array(packed[..<count])
      }
    }
  }

  private static let long = (0..<40_000).map { "line \($0 * 7919 % 10_007)" }.joined(separator: "\n")

  @Test(arguments: Pack.allCases)
  func `compressed files are recognised by their bytes, also with several streams`(pack: Pack) throws {
    try write("a.txt", pack(Array(Self.long.utf8)))
    #expect(try read("a.txt") == [Self.long])
    try write("rows.bin", pack(Array(#"{"text": "a b"}"#.utf8) + [10] + Array(#"{"text": "c d"}"#.utf8)))
    #expect(try read("rows.bin") == ["a b", "c d"])
    // The .lzma format has no end marker that could be followed by another stream.
    guard pack != .lzma else { return }
    try write("two", pack(Array("one ".utf8)) + pack(Array("two".utf8)))
    #expect(try read("two") == ["one two"])
  }

  @Test(arguments: Pack.allCases)
  func `compressed files that are truncated, damaged or followed by other bytes are refused`(pack: Pack) throws {
    let whole = try pack(Array(Self.long.utf8))
    for share in [2, 3, 10] {
      try write("a.x", Array(whole.prefix(whole.count * (share - 1) / share)))
      #expect(complaint("a.x").hasPrefix("cannot unpack"), "\(complaint("a.x"))")
    }
    try write("a.x", Array(whole.dropLast(1)))
    #expect(complaint("a.x").hasPrefix("cannot unpack"))
    guard pack != .lzma else { return }
    try write("a.x", whole + Array("and more text".utf8))
    #expect(complaint("a.x").hasPrefix("cannot unpack"), "\(complaint("a.x"))")
    // lz4 and zstd have a checksum of their content only where the writer has chosen it.
    guard pack != .lz4, pack != .zstd else { return }
    var flipped = whole
    flipped[whole.count / 2] ^= 0x10
    try write("a.x", flipped)
    #expect(complaint("a.x").hasPrefix("cannot unpack"))
  }

  @Test func `zstd that begins with a skippable frame, as pzstd writes it, is unpacked`() throws {
    let skipped: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]
    try write("a.txt", skipped + Pack.zstd(Array("one ".utf8)) + skipped + Pack.zstd(Array("two".utf8)))
    #expect(try read("a.txt") == ["one two"])
    try write("b.txt", skipped + Pack.lz4(Array("three".utf8)))
    #expect(try read("b.txt") == ["three"])
  }

  @Test func `a window of zstd above 128 MiB is read where memory is allowed for it`() throws {
    // A frame that demands a window of 256 MiB (RFC 8878): one raw block of five bytes, marked as the last.
    let frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 18 << 3, 5 << 3 | 1, 0, 0] + Array("large".utf8)
    try write("a.zst", frame)
    #expect(
      complaint("a.zst") == "cannot unpack a.zst: it needs 256 MiB of memory; --memory 256 allows it")
    #expect(try read("a.zst") { $0.memory = 256 << 20 } == ["large"])
    #expect(complaint("a.zst") { $0.memory = 255 << 19 }.contains("--memory 256"))
  }

  @Test func `the error for xz that needs too much memory names the amount`() throws {
    try write("a.xz", Pack.xz(Array(Self.long.utf8)))
    let message = complaint("a.xz") { $0.memory = 1 << 20 }
    let needed = try #require(message.firstMatch(of: /--memory (\d+) allows it/)).1
    #expect(try read("a.xz") { $0.memory = Int(needed)! << 20 } == [Self.long])
  }

  // MARK: Foreign kinds

  @Test(arguments: [
    ("PAR1\u{15}\u{04}", "a Parquet file", "python3 -m ress.convert x.bin --out x.bin.jsonl.gz"),
    ("ARROW1\0\0", "an Arrow file", "python3 -m ress.convert x.bin"),
    ("PK\u{3}\u{4}", "a zip archive", "unzip x.bin"), ("%PDF-1.7", "a PDF document", "pdftotext x.bin"),
    ("SQLite format 3\0", "an SQLite database", "one object a line"), ("GIF89a", "a picture", "leave it out"),
    ("RIFF\u{1}\u{2}\u{3}\u{4}WAVE", "an audio or video file", "leave it out"),
    ("Obj\u{1}", "an Avro file", "one object a line"),
  ])
  func `a file that is neither text nor rows is refused by name, with advice`(
    magic: String, what: String, advice: String
  )
    throws
  {
    for pack in [nil, Pack.zstd] {
      let bytes = Array(magic.utf8) + [UInt8](repeating: 7, count: 600)
      try write("x.bin", pack.map { try $0(bytes) } ?? bytes)
      #expect(complaint("x.bin").hasPrefix("x.bin is \(what)") && complaint("x.bin").contains(advice))
      // Whatever the name and the requested format are.
      try write("x.jsonl", pack.map { try $0(bytes) } ?? bytes)
      #expect(complaint("x.jsonl").contains("is \(what)"))
      #expect(complaint("x.bin") { $0.format = .text }.contains("is \(what)"))
    }
  }

  @Test func `pictures, archives, UTF-16 and datasets are refused, and text that begins like one is not`() throws {
    func refused(_ bytes: [UInt8]) throws -> String {
      try write("x", bytes)
      return complaint("x")
    }
    let zeros = [UInt8](repeating: 0, count: 600)
    #expect(try refused([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A] + zeros).hasPrefix("x is a picture"))
    #expect(try refused([0xFF, 0xD8, 0xFF, 0xE0] + zeros).hasPrefix("x is a picture"))
    var tar = Array("file.txt".utf8) + zeros
    tar.replaceSubrange(257..<262, with: Array("ustar".utf8))
    #expect(try refused(tar).hasPrefix("x is a tar archive; unpack it first: tar -xf x"))
    #expect(try refused(Pack.gzip(tar)).hasPrefix("x is a tar archive"))
    #expect(try refused([0xFF, 0xFE] + Array("h\0i\0".utf8)).hasPrefix("x is text in UTF-16; convert it: iconv"))
    #expect(try refused(Pack.gzip(Pack.gzip(Array("text".utf8)))).hasPrefix("x is packed twice"))
    do { try HDF5File.create(path("d.h5")).setAttribute("x", 1) }
    #expect(complaint("d.h5").hasPrefix("d.h5 is an HDF5 file, as datasets of ress are"))
    for text in [
      "PAR1S is a city", "ORChestra", "PKWARE made zip", "BZhello world", "GGUF!", "Rar!e", "]text", "ID3 tags",
      "OggSound",
    ] {
      try write("x", Array(text.utf8))
      #expect(try read("x") == [text])
    }
  }

  // MARK: Rows

  @Test(arguments: ["x.json", "x.txt", "x", "x.json.gz"])
  func `rows are recognised by their first line, whatever the file's name is`(name: String) throws {
    try write(name, Array("{\"text\":\"a b\"}\n{\"text\":\"c d\"}\n".utf8))
    #expect(try read(name) == ["a b", "c d"])
    #expect(try read(name) { $0.format = .text } == ["{\"text\":\"a b\"}\n{\"text\":\"c d\"}\n"])
    // A byte order mark, and a first row that is longer than what is examined.
    let long = String(repeating: "long ", count: 30_000)
    try write(name, [0xEF, 0xBB, 0xBF] + Array("{\"text\":\"\(long)\"}\r\n{\"text\":\"b\"}\r\n".utf8))
    #expect(try read(name) == [long, "b"])
  }

  @Test func `JSON over several lines is text only on request, and braces alone are not rows`() throws {
    for text in ["{\n  \"a\": 1\n}\n", "[\n{\"text\": \"a\"}]"] {
      try write("a.json", Array(text.utf8))
      #expect(
        complaint("a.json").hasPrefix("a.json is JSON, but not one object a line; make rows of it: jq -c '.[]' a.json"))
      #expect(try read("a.json") { $0.format = .text } == [text])
    }
    try write("list", Array(#"[{"text": "a"}, {"text": "b"}]"#.utf8))
    #expect(complaint("list").contains("jq -c"))
    for text in ["{\n  int x;\n}\n", "{}", "{ a }", "[1, 2]", "{\"unfinished"] {
      try write("a.c", Array(text.utf8))
      #expect(try read("a.c") == [text])
    }
  }

  @Test func `a field option without effect is an error`() throws {
    try write("a.txt", Array("plain text".utf8))
    var preparation = DatasetPreparation(sources: [path("a.txt")], output: path("d.h5"))
    preparation.options.field = "text"
    #expect(throws: DataError.self) { try preparation.run() }
    var training = BytePairTraining()
    var options = SourceOptions()
    options.field = "body"
    #expect(throws: DataError.self) { try training.read([path("a.txt")], options: options, threads: 1) }
    try write("b.json", Array(#"{"body": "x"}"#.utf8))
    preparation.sources.append(path("b.json"))
    preparation.options.field = "body"
    #expect(try preparation.run().documents == 2)
    preparation.task = .span
    let error = #expect(throws: DataError.self) { try preparation.run() }
    #expect(error?.description.contains("fields of fixed names") == true)
  }
}
