// The program's version, in `ress --version`, in checkpoints and in the hello of a worker.

package enum Version {
  package static let number = "0.1.0"
  package static let program = "ress \(number)"
}
