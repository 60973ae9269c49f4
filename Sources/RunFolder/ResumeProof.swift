// What the first step after a checkpoint gave, in `proof.json` beside its manifest. Whoever resumes from the checkpoint must get
// the same, to the bit: the proof that the whole state was found.

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

  /// A damaged proof must not accuse a sound checkpoint.
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

  /// Numbers are written so that they read back to the same bits. Losses that are no numbers prove nothing.
  package static func writeProof(
    _ proof: ResumeProof, in path: String, _ boundary: Boundary = .none
  ) throws(FolderError) {
    guard let bytes = try? JSONEncoder().encode(Sealed(proof)) else { return }
    try boundary.within(path) { (pinned) throws(FolderError) in
      try Durable.write(Array(bytes), to: pinned.path + "/" + proofName)
    }
  }

  /// Nil where there is none, or none that can be read: a checkpoint is whole without it.
  package static func readProof(_ path: String, _ boundary: Boundary = .none) -> ResumeProof? {
    guard let data = try? boundary.contents(of: path + "/" + proofName),
      let sealed = try? JSONDecoder().decode(Sealed.self, from: data), sealed.seal == Sealed.seal(sealed.proof)
    else { return nil }
    return sealed.proof
  }
}
