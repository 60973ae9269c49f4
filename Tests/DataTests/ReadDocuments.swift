// What `ress data prepare` would read from a file.

import Data

/// The documents of a file, as text.
func readDocuments(_ path: String, _ change: (inout SourceOptions) -> Void) throws -> [String] {
  var options = SourceOptions()
  change(&options)
  var list = try SourceList([path])
  try list.look(options)
  var documents: [[UInt8]] = []
  let reader = DocumentReader(options: options)
  for file in list.files {
    try reader.read(file) { piece in
      if piece.beginsDocument { documents.append([]) }
      documents[documents.count - 1] += piece.bytes
    }
  }
  return documents.map { String(decoding: $0, as: UTF8.self) }
}
