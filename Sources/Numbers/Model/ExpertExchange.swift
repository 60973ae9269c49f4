// The interface between the model and its experts. The model passes rows sorted by expert and gets rows back;
// whether an expert is in this process (`LocalExperts`) or on another worker (`PeerExchange`) is hidden behind the
// protocol.

import Kernels

/// The place of a set of rows in the step. Together with an expert it identifies one matrix product of the run.
package struct ExpertSite: Hashable, Sendable {
  /// The unit of the step's batch.
  package var unit: Int
  /// The sequence in the unit.
  package var sequence: Int
  package var segment: Int
  package var recurrence: Int

  package init(unit: Int, sequence: Int, segment: Int, recurrence: Int) {
    self.unit = unit
    self.sequence = sequence
    self.segment = segment
    self.recurrence = recurrence
  }
}

/// Computes experts on rows, wherever the experts are. The rows of an expert at one site are always one call, in
/// token order, so that a row's result has the same bits wherever the expert is.
package protocol ExpertExchange: AnyObject {
  /// Passes each row of `rows` (N, D) through its expert, into `out` (N, D). Pieces are sorted by expert. With
  /// `keep`, the experts keep what `backward` of the same site needs.
  func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) throws

  /// Computes drows (N, D) from dout (N, D), and adds to the gradients of the experts' weights for the site's unit.
  func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) throws
}

/// The rows of one expert in a matrix sorted by expert.
package struct ExpertPiece: Equatable, Sendable {
  /// The expert's number in the whole model.
  package var expert: Int
  package var rows: Range<Int>

  package init(expert: Int, rows: Range<Int>) {
    self.expert = expert
    self.rows = rows
  }

  /// Replaces `pieces` by those of rows of which the first `counts[0]` belong to expert `first`, the following
  /// `counts[1]` to the expert after it, and so on. Experts without rows have no piece.
  package static func split(_ counts: UnsafeBufferPointer<Int32>, first: Int = 0, into pieces: inout [ExpertPiece]) {
    pieces.removeAll(keepingCapacity: true)
    var row = 0
    for (place, count) in counts.enumerated() where count > 0 {
      pieces.append(ExpertPiece(expert: first + place, rows: row..<row + Int(count)))
      row += Int(count)
    }
  }
}
