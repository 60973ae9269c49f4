// `ress checkpoint list` and `ress checkpoint show`.

import Checkpoint
import Configuration
import Foundation
import Model
import RunFolder
import Shell

func checkpointList(_ options: CheckpointListOptions) throws -> ExitCode {
  let folder = options.folder
  guard FileManager.default.fileExists(atPath: folder) else {
    throw FolderError.missing(
      path: folder, hint: "a run's checkpoints are in checkpoints/RUN, unless checkpoint.directory is set")
  }
  // A run's folder, or the folder of all runs.
  let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
  let runs = CheckpointFolder.steps(folder).isEmpty ? names.map { "\(folder)/\($0)" } : [folder]
  var rows: [CheckpointRow] = []
  for run in runs {
    rows += CheckpointFolder.steps(run).map { CheckpointRow(CheckpointFolder.finished(run, step: $0), step: $0) }
  }
  if options.json {
    for row in rows { Terminal.print(row.json) }
    return .done
  }
  if rows.isEmpty {
    Terminal.print("\(folder) contains no checkpoints")
    return .done
  }
  var table = TextTable([
    ("checkpoint", .left), ("step", .right), ("loss", .right), ("validation", .right), ("size", .right),
    ("shards", .right), ("written", .left),
  ])
  for row in rows { table.add(row.cells) }
  Terminal.print(table.text)
  Terminal.print("\nTo verify the files: ress checkpoint verify CHECKPOINT")
  return .done
}

/// A folder that looks like a checkpoint, with its manifest or the error of reading it.
private struct CheckpointRow {
  let path: String
  let step: Int
  let manifest: Result<CheckpointManifest, FolderError>

  init(_ path: String, step: Int) {
    self.path = path
    self.step = step
    manifest = Result { () throws(FolderError) in try CheckpointFolder.readManifest(path) }
  }

  var cells: [String] {
    switch manifest {
    case .success(let manifest):
      [
        path, String(step), manifest.loss.map { Format.fixed($0, 4) } ?? "",
        manifest.validationLoss.map { Format.fixed($0, 4) } ?? "", Format.bytes(manifest.byteCount),
        String(manifest.shardCount), manifest.created,
      ]
    case .failure(let error): [path, String(step), "", "", "", "", "not usable: \(error)"]
    }
  }

  var json: String {
    switch manifest {
    case .success(let manifest): manifest.json(path: path)
    case .failure(let error):
      JSON.object([("path", .text(path)), ("step", .whole(step)), ("problem", .text("\(error)"))]).line
    }
  }
}

extension CheckpointManifest {
  var byteCount: Int { files.reduce(0) { $0 + $1.byteCount } }
  var shardCount: Int { files.count { $0.name.hasPrefix("shard-") } }

  func json(path: String) -> String {
    JSON.object([
      ("path", .text(path)), ("run", .text(run)), ("step", .whole(step)),
      ("loss", .init(loss)),
      ("validation_loss", .init(validationLoss)),
      ("bytes", .whole(byteCount)), ("shards", .whole(shardCount)), ("writer", .text(writer)),
      ("created", .text(created)),
      ("from", from.map(\.json) ?? .null),
    ]).line
  }
}

extension WeightSource {
  fileprivate var json: JSON {
    .object([
      ("path", .text(path)), ("run", .text(run)), ("step", .whole(step)), ("sha256", .text(sha256)),
    ])
  }
}

func checkpointShow(_ options: CheckpointShowOptions) throws -> ExitCode {
  // Reading verifies every file first.
  let reader = try CheckpointReader(options.checkpoint)
  for sentence in reader.skipped { Terminal.complain(sentence) }
  let manifest = reader.manifest
  let embedding = try reader.shape(of: "model/embed/weight")
  let layout = ParameterLayout(manifest.configuration, vocabulary: embedding[0])
  if options.json {
    Terminal.print(manifest.json(path: reader.path))
    return .done
  }
  Terminal.print(
    """
    \(reader.path)
      run         \(manifest.run) (\(manifest.runIdentifier)), step \(manifest.step) of \(manifest.configuration.training.steps)
      loss        \(manifest.loss.map { Format.fixed($0, 6) } ?? "not recorded")
      validation  \(manifest.validationLoss.map { Format.fixed($0, 6) } ?? "not evaluated")
      parameters  \(Format.grouped(layout.totalCount)), \(Format.count(layout.experts.count, "expert")), vocabulary \(embedding[0])
      began with  \(manifest.from?.spoken ?? "weights from the seed")
      dataset     \(manifest.configuration.data.names)
      written     \(manifest.created) by \(manifest.writer)
      verified    \(Format.count(manifest.files.count, "file")), \(Format.bytes(manifest.byteCount))

    """)
  var files = TextTable([("file", .left), ("size", .right), ("SHA-256", .left)])
  for file in manifest.files { files.add([file.name, Format.bytes(file.byteCount), file.sha256]) }
  Terminal.print(files.text)
  if options.tensors {
    var tensors = TextTable([("tensor", .left), ("shape", .left), ("numbers", .right)])
    for entry in layout.dense + layout.experts.flatMap({ $0 }) where entry.count > 0 {
      let shape = try reader.shape(of: StoredKind.values.name(of: entry))
      tensors.add([
        StoredKind.values.name(of: entry), shape.map { String($0) }.joined(separator: " × "),
        Format.grouped(entry.count),
      ])
    }
    Terminal.print("\n" + tensors.text)
  }
  return .done
}
