// Tensors whose rows were written by several owners. A reader sees one tensor, whatever the division.

import Checkpoint
import Configuration
import Foundation
import HDF5
import Model
import RunFolder
import TestSupport
import Testing

@Suite final class DividedTensorTests {
  private let folder = NSTemporaryDirectory() + "ress-divided-" + UUID().uuidString
  private static let name = "model/embed/weight"

  init() throws { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: folder) }

  private static func value(_ place: Int) -> Float { Float(place % 9_973) + 0.25 }

  /// A checkpoint of one tensor. Shard i has the rows from `borders[i]` to the next one; the last border is the number
  /// of rows.
  private func save(
    _ borders: [Int], width: Int, lastWidth: Int? = nil, linking isLinked: (Int) -> Bool = { _ in true }
  ) throws -> String {
    let shards = borders.count - 1
    let place = folder + "/" + UUID().uuidString
    let writer = try CheckpointWriter(folder: place, step: 4, generation: 0, shardCount: shards)
    var files: [CheckpointManifest.File] = []
    var links: [(name: String, shard: Int)] = []
    for shard in 0..<shards {
      let rows = borders[shard]..<borders[shard + 1]
      let stored = shards == 1 ? Self.name : TensorRows.stored(Self.name, from: rows.lowerBound)
      let width = shard == shards - 1 ? lastWidth ?? width : width
      let values = (rows.lowerBound * width..<rows.upperBound * width).map(Self.value)
      files.append(
        try values.withUnsafeBufferPointer {
          try writer.writeShard(
            shard, [NamedTensor(name: stored, shape: [rows.count, width], values: $0.baseAddress!)])
        })
      if isLinked(shard) { links.append((stored, shard)) }
    }
    files.append(try writer.writeModel(links))
    return try CheckpointFolder.commit(
      CheckpointManifest(
        run: "r", runIdentifier: "1", step: 4, configuration: RunConfiguration(), loss: 2, files: files,
        writer: "test", created: ""), folder: place)
  }

  private func read(_ path: String, rows: Range<Int>?, of shape: [Int]) throws -> [Float] {
    let count = (rows?.count ?? shape[0]) * shape[1]
    // Values beyond the range must stay as they are.
    var values = [Float](repeating: -1, count: count + 2)
    try values.withUnsafeMutableBufferPointer {
      try CheckpointReader(path).read(Self.name, shape: shape, rows: rows, into: $0.baseAddress! + 1)
    }
    #expect(values.first == -1 && values.last == -1)
    return Array(values[1...count])
  }

  @Test(arguments: [[0, 7], [0, 2, 7], [0, 1, 2, 3, 4, 5, 6, 7], [0, 3, 5, 7]])
  func `a tensor of any number of owners is read as one tensor, whole and any of its rows`(borders: [Int]) throws {
    let path = try save(borders, width: 3)
    #expect(try CheckpointReader(path).shape(of: Self.name) == [7, 3])
    #expect(try read(path, rows: nil, of: [7, 3]) == (0..<21).map(Self.value))
    for first in 0..<7 {
      for end in first + 1...7 {
        #expect(try read(path, rows: first..<end, of: [7, 3]) == (3 * first..<3 * end).map(Self.value))
      }
    }
  }

  @Test(arguments: [[0, 2_500], [0, 1_100, 2_500]])
  func `rows of datasets that are read block by block are the right ones`(borders: [Int]) throws {
    let path = try save(borders, width: 1_000)
    for rows in [0..<1, 1_047..<1_050, 1_099..<1_101, 2_499..<2_500, 900..<2_200] {
      #expect(
        try read(path, rows: rows, of: [2_500, 1_000])
          == (1_000 * rows.lowerBound..<1_000 * rows.upperBound).map(Self.value), "\(rows)")
    }
  }

  private func message(_ body: () throws -> Void) -> String {
    do { try body() } catch { return "\(error)" }
    return "no error"
  }

  @Test func `a tensor that lacks rows, and one whose rows do not continue it, are refused by name`() throws {
    let gap = try save([0, 2, 5, 7], width: 3) { $0 != 1 }
    #expect(
      message { _ = try read(gap, rows: nil, of: [7, 3]) }.contains(
        "\(Self.name): its shape is [2, 3], and the model's [7, 3]"))
    let headless = try save([0, 2, 5, 7], width: 3) { $0 != 0 }
    #expect(message { _ = try CheckpointReader(headless).shape(of: Self.name) }.contains(Self.name))
    let uneven = try save([0, 3, 5], width: 3, lastWidth: 4)
    #expect(
      message { _ = try CheckpointReader(uneven).shape(of: Self.name) }.contains(
        "\(Self.name)/rows-from-0000003: its shape [2, 4] does not continue the tensor"))
  }

  @Test func `damage in rows that are not wanted is noticed where their dataset is read, and nowhere else`() throws {
    let path = try save([0, 3, 7], width: 3)
    let place = path + "/shard-0001-of-0002.h5"
    var bytes = FileManager.default.contents(atPath: place)!
    let number = withUnsafeBytes(of: Self.value(20)) { Data($0) }
    bytes[try #require(bytes.range(of: number)).lowerBound] ^= 4
    try bytes.write(to: URL(filePath: place))
    let reader = try CheckpointReader(path, verified: true)
    var values = [Float](repeating: 0, count: 21)
    try reader.read(Self.name, shape: [7, 3], rows: 0..<3, into: &values)
    #expect(Array(values[..<9]) == (0..<9).map(Self.value))
    let said = message { try reader.read(Self.name, shape: [7, 3], rows: 3..<4, into: &values) }
    #expect(said.contains("\(Self.name)/rows-from-0000003: its numbers are damaged"), "\(said)")
  }
}
