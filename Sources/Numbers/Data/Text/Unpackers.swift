// Decompression of source files: one class for each format, each a state machine that turns compressed bytes into
// plain ones, piece by piece. Each reads several streams in sequence, as parallel compressors (pigz, pbzip2, pzstd,
// pixz) write them, and refuses other bytes after the last stream, so that no text is dropped without an error.

import CBZip2
import CLZ4
import CLZMA
import CZlib
import CZstd

/// An error in compressed data.
enum UnpackFault: Error, Equatable {
  case damaged(String)
  /// Decompression needs more memory than it is given.
  case memory(needed: Int?)
}

protocol Unpacker: AnyObject {
  /// Decompresses some input. Returns the number of bytes consumed and produced; both are 0 where more input is
  /// needed.
  /// - Parameter isLast: whether this is the end of the file.
  func unpack(
    _ input: UnsafeBufferPointer<UInt8>, isLast: Bool, into output: UnsafeMutableBufferPointer<UInt8>
  ) throws(UnpackFault) -> (used: Int, made: Int)

  /// Whether the input may end here.
  var isComplete: Bool { get }
}

final class GzipUnpacker: Unpacker {
  private var stream = z_stream()
  private(set) var isComplete = false
  /// Zeros after the data, which fill up the last block of a tape or device.
  private var isPadding = false

  init() {
    // Window of 15 bits; 16 is added for gzip's header (zlib manual, inflateInit2).
    let code = inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    precondition(code == Z_OK, "zlib: \(code)")
  }

  deinit { inflateEnd(&stream) }

  func unpack(
    _ input: UnsafeBufferPointer<UInt8>, isLast: Bool, into output: UnsafeMutableBufferPointer<UInt8>
  ) throws(UnpackFault) -> (used: Int, made: Int) {
    if isComplete, !input.isEmpty {
      isPadding = isPadding || input[0] == 0
      if isPadding {
        guard input.allSatisfy({ $0 == 0 }) else { throw .damaged("other bytes follow the gzip data") }
        return (input.count, 0)
      }
      guard input[0] == 0x1F else { throw .damaged("other bytes follow the gzip data") }
      inflateReset(&stream)
      isComplete = false
    }
    stream.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
    stream.avail_in = UInt32(clamping: input.count)
    stream.next_out = output.baseAddress
    stream.avail_out = UInt32(clamping: output.count)
    let (before, room) = (stream.avail_in, stream.avail_out)
    let code = inflate(&stream, Z_NO_FLUSH)
    guard code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR else {
      throw .damaged(stream.msg.map { String(cString: $0) } ?? "the gzip data is damaged (\(code))")
    }
    if code == Z_STREAM_END { isComplete = true }
    return (Int(before - stream.avail_in), Int(room - stream.avail_out))
  }
}

final class ZstdUnpacker: Unpacker {
  private let stream: OpaquePointer
  /// The decoder's hint for the next input; 0 between two frames.
  private var needed = 0

  /// - Parameter memory: most bytes for the window.
  init(memory: Int) {
    stream = ZSTD_createDStream()
    ZSTD_initDStream(stream)
    // The limit is a power of two; the next larger one is used.
    let logarithm = Int.bitWidth - max(0, memory - 1).leadingZeroBitCount
    ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, Int32(min(max(logarithm, 10), 31)))
  }

  deinit { ZSTD_freeDStream(stream) }

  var isComplete: Bool { needed == 0 }

  func unpack(
    _ input: UnsafeBufferPointer<UInt8>, isLast: Bool, into output: UnsafeMutableBufferPointer<UInt8>
  ) throws(UnpackFault) -> (used: Int, made: Int) {
    var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
    var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
    // Without input, only output that the decoder holds back can follow.
    if input.isEmpty && needed == 0 { return (0, 0) }
    let code = ZSTD_decompressStream(stream, &target, &source)
    guard ZSTD_isError(code) == 0 else {
      let words = String(cString: ZSTD_getErrorName(code))
      // The only error of memory that a window can cause.
      if words.contains("too much memory") { throw .memory(needed: ZstdUnpacker.window(input)) }
      throw .damaged(words)
    }
    if source.pos > 0 || target.pos > 0 { needed = code }
    return (source.pos, target.pos)
  }

  /// Size of the window in a frame's header (RFC 8878, 3.1.1.1.2); nil where the input does not begin with one.
  private static func window(_ input: UnsafeBufferPointer<UInt8>) -> Int? {
    guard input.count >= 6, input[0] == 0x28, input[1] == 0xB5, input[2] == 0x2F, input[3] == 0xFD,
      input[4] & 0x20 == 0
    else { return nil }
    let base = 1 << (10 + Int(input[5] >> 3))
    return base + base / 8 * Int(input[5] & 7)
  }
}

/// xz, and the older .lzma format.
final class XZUnpacker: Unpacker {
  private var stream = lzma_stream()
  private(set) var isComplete = false

  /// - Parameter memory: most bytes that liblzma may allocate.
  init(memory: Int) {
    let code = lzma_auto_decoder(&stream, UInt64(max(1, memory)), ress_lzma_concatenated())
    precondition(code == LZMA_OK, "liblzma: \(code)")
  }

  deinit { lzma_end(&stream) }

  func unpack(
    _ input: UnsafeBufferPointer<UInt8>, isLast: Bool, into output: UnsafeMutableBufferPointer<UInt8>
  ) throws(UnpackFault) -> (used: Int, made: Int) {
    if isComplete { return (0, 0) }
    stream.next_in = input.baseAddress
    stream.avail_in = input.count
    stream.next_out = output.baseAddress
    stream.avail_out = output.count
    let code = lzma_code(&stream, isLast ? LZMA_FINISH : LZMA_RUN)
    switch code {
    case LZMA_OK, LZMA_BUF_ERROR: break
    case LZMA_STREAM_END: isComplete = true
    case LZMA_MEMLIMIT_ERROR: throw .memory(needed: Int(clamping: lzma_memusage(&stream)))
    case LZMA_FORMAT_ERROR: throw .damaged("other bytes follow the xz data")
    case LZMA_OPTIONS_ERROR: throw .damaged("the xz data asks for options that liblzma does not know")
    default: throw .damaged("the xz data is damaged")
    }
    return (input.count - stream.avail_in, output.count - stream.avail_out)
  }
}

final class BZip2Unpacker: Unpacker {
  private var stream = bz_stream()
  private(set) var isComplete = false

  init() { begin() }
  deinit { BZ2_bzDecompressEnd(&stream) }

  private func begin() {
    stream = bz_stream()
    let code = BZ2_bzDecompressInit(&stream, 0, 0)
    precondition(code == BZ_OK, "libbz2: \(code)")
  }

  func unpack(
    _ input: UnsafeBufferPointer<UInt8>, isLast: Bool, into output: UnsafeMutableBufferPointer<UInt8>
  ) throws(UnpackFault) -> (used: Int, made: Int) {
    if isComplete {
      guard !input.isEmpty else { return (0, 0) }
      BZ2_bzDecompressEnd(&stream)
      begin()
      isComplete = false
    }
    stream.next_in = UnsafeMutableRawPointer(mutating: input.baseAddress)?.assumingMemoryBound(to: CChar.self)
    stream.avail_in = UInt32(clamping: input.count)
    stream.next_out = UnsafeMutableRawPointer(output.baseAddress)?.assumingMemoryBound(to: CChar.self)
    stream.avail_out = UInt32(clamping: output.count)
    let (before, room) = (stream.avail_in, stream.avail_out)
    let code = BZ2_bzDecompress(&stream)
    switch code {
    case BZ_OK: break
    case BZ_STREAM_END: isComplete = true
    case BZ_DATA_ERROR_MAGIC: throw .damaged("other bytes follow the bzip2 data")
    default: throw .damaged("the bzip2 data is damaged")
    }
    return (Int(before - stream.avail_in), Int(room - stream.avail_out))
  }
}

final class LZ4Unpacker: Unpacker {
  private let context: OpaquePointer
  /// The decoder's hint for the next input; 0 between two frames.
  private var needed = 0

  init() {
    var context: OpaquePointer?
    let code = LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))
    precondition(LZ4F_isError(code) == 0, "liblz4: out of memory")
    self.context = context!
  }

  deinit { LZ4F_freeDecompressionContext(context) }

  var isComplete: Bool { needed == 0 }

  func unpack(
    _ input: UnsafeBufferPointer<UInt8>, isLast: Bool, into output: UnsafeMutableBufferPointer<UInt8>
  ) throws(UnpackFault) -> (used: Int, made: Int) {
    var used = input.count, made = output.count
    if input.isEmpty && needed == 0 { return (0, 0) }
    let code = LZ4F_decompress(context, output.baseAddress, &made, input.baseAddress, &used, nil)
    guard LZ4F_isError(code) == 0 else { throw .damaged("lz4: " + String(cString: LZ4F_getErrorName(code))) }
    if used > 0 || made > 0 { needed = code }
    return (used, made)
  }
}
