// The border between a token and the expert that transforms it. The model hands over rows sorted by expert and gets
// rows back; whether an expert lives in this process or in another worker is the exchange's business.

import Kernels

/// Where in the step a set of rows belongs; with the expert it names one product of the whole run's arithmetic.
package struct ExpertSite: Hashable, Sendable {
  /// Unit of the step's batch.
  package var unit: Int
  /// Sequence within the unit.
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

/// Computes experts on rows, wherever they live. Each expert's rows of a site are one call, in token order, so that a
/// row's bits do not depend on where the expert is.
package protocol ExpertExchange: AnyObject {
  /// out (N, d) = each row of `rows` (N, d) through its expert; pieces ascend by expert. With `keep`, what `backward`
  /// needs is kept until it is asked for.
  func forward(_ site: ExpertSite, pieces: [ExpertPiece], rows: Matrix, into out: Matrix, keep: Bool) throws

  /// drows (N, d) from dout (N, d), adding to the gradients of the experts' weights for the site's unit.
  func backward(_ site: ExpertSite, pieces: [ExpertPiece], dout: Matrix, into drows: Matrix) throws
}

/// Rows of one expert within a matrix sorted by expert.
package struct ExpertPiece: Equatable, Sendable {
  /// Among all experts of the model.
  package var expert: Int
  package var rows: Range<Int>

  package init(expert: Int, rows: Range<Int>) {
    self.expert = expert
    self.rows = rows
  }

  /// The pieces of rows whose first `counts[0]` go to expert `first`, the next to the one behind it, and so on, in place of what
  /// `pieces` held; experts without rows are left out.
  package static func split(_ counts: UnsafeBufferPointer<Int32>, first: Int = 0, into pieces: inout [ExpertPiece]) {
    pieces.removeAll(keepingCapacity: true)
    var row = 0
    for (place, count) in counts.enumerated() where count > 0 {
      pieces.append(ExpertPiece(expert: first + place, rows: row..<row + Int(count)))
      row += Int(count)
    }
  }
}
