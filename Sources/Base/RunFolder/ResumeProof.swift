// The result of the first step after a checkpoint, stored as `proof.json` in its folder. A run that resumes from
// the checkpoint must compute the same loss and gradient norm, to the bit, which proves that the whole state was
// restored.

import Configuration
import Foundation

package struct ResumeProof: Codable, Equatable, Sendable {
  /// The checkpoint's step + 1.
  package var step: Int
  package var loss: Double
  package var gradientNorm: Double

  package init(step: Int, loss: Double, gradientNorm: Double) {
    self.step = step
    self.loss = loss
    self.gradientNorm = gradientNorm
  }
}

extension CheckpointFolder {
  private static let proofName = "proof.json"

  /// The proof with a checksum. A damaged proof must not make a good checkpoint look bad.
  private struct Sealed: Codable {
    var proof: ResumeProof
    var seal: String

    init(_ proof: ResumeProof) {
      self.proof = proof
      seal = Sealed.seal(proof)
    }

    static func seal(_ proof: ResumeProof) -> String {
      SHA256.of(Array("\(proof.step) \(proof.loss.bitPattern) \(proof.gradientNorm.bitPattern)".utf8))
    }
  }

  /// Writes the proof. Its numbers are written so that they are read back to the same bits. Nothing is written
  /// where one is not finite.
  package static func writeProof(
    _ proof: ResumeProof, in path: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    guard proof.loss.isFinite, proof.gradientNorm.isFinite, let bytes = try? JSON.encode(Sealed(proof)) else { return }
    try boundary.within(path) { (pinned) throws(FolderError) in
      try Durable.write(bytes, to: pinned.path + "/" + proofName)
    }
  }

  /// The proof; nil where it is missing or cannot be read, because a checkpoint is complete without it.
  package static func readProof(_ path: String, _ boundary: Boundary = .none) -> ResumeProof? {
    guard let data = try? boundary.contents(of: path + "/" + proofName),
      let sealed = try? JSON.decode(Sealed.self, from: data), sealed.seal == Sealed.seal(sealed.proof)
    else { return nil }
    return sealed.proof
  }
}
