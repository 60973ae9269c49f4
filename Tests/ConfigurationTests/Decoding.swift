// What the tests of this target share: decoding a text, and the problems that it has.

import Configuration
import Glibc
import Testing

/// The smallest valid configuration, for tests that add to it.
let minimal = "data:\n  path: data/x.h5\n"

func decode(_ text: String, _ overrides: [String] = []) throws -> RunConfiguration {
  try ConfigurationDecoder.decode(
    text: text, name: "c.yaml", overrides: overrides.map(ConfigurationOverride.init(set:)))
}

/// The lines of the error that the text must have.
func problems(_ text: String, _ overrides: [String] = [], sourceLocation: SourceLocation = #_sourceLocation) -> [String]
{
  do {
    _ = try ConfigurationDecoder.decode(
      text: text, name: "c.yaml", overrides: overrides.map(ConfigurationOverride.init(set:)))
    Issue.record("decoded without an error", sourceLocation: sourceLocation)
    return []
  } catch {
    return error.problems.map(\.description)
  }
}

/// A file with these bytes, to `remove` after use.
func temporaryFile(_ bytes: [UInt8]) -> String {
  let path = "/tmp/ress-configuration-\(getpid())-\(UInt64.random(in: 0 ... .max)).yaml"
  guard let file = fopen(path, "w") else { fatalError("cannot write \(path)") }
  fwrite(bytes, 1, bytes.count, file)
  fclose(file)
  return path
}
