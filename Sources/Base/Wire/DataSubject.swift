// What the numbers of a data message belong to. The phase of a message decides the case, so on the wire every case
// uses the same 14 bytes, and each of them has one meaning in a case.

/// What a message between workers is about. Numbers that are sent fit 32 bits, the recurrence of a site and
/// the level of an expert's node 16 bits.
package enum DataSubject: Equatable, Sendable {
  /// The whole round: norms, and measurements of a connection.
  case step
  /// One unit of the round.
  case unit(Int)
  /// One call of the expert layer: the rows of a unit's sequence at a segment and a step of recurrence.
  case site(unit: Int, sequence: Int, segment: Int, recurrence: Int)
  /// The sum of the gradients over a subtree of units, of one part of the dense parameters that the receiver updates.
  case node(level: Int, index: Int, part: Int)
  /// A part of the dense parameters that the sender updated.
  case part(Int)
  /// The sum of the gradients of a part of an expert over a subtree of units; a part of an expert's parameters.
  case expertNode(level: Int, index: Int, expert: Int, part: Int)
  case expertPart(expert: Int, part: Int)
  /// The values from chunk `chunk` on (a chunk is 65,536 values), of one kind (parameter, first or second moment) of a
  /// tensor of the model.
  case tensor(number: Int, kind: Int, chunk: Int)
  /// A piece of the copy that was made after a step, which has `count` pieces.
  case copy(step: Int, piece: Int, count: Int)

  /// The fields on the wire.
  struct Words: Equatable {
    var first: UInt32 = 0
    var second: UInt32 = 0
    var third: UInt32 = 0
    var fourth: UInt16 = 0
  }

  var words: Words {
    switch self {
    case .step: Words()
    case .unit(let unit): Words(first: UInt32(unit))
    case .site(let unit, let sequence, let segment, let recurrence):
      Words(
        first: UInt32(unit), second: UInt32(sequence), third: UInt32(segment), fourth: UInt16(recurrence))
    case .node(let level, let index, let part):
      Words(first: UInt32(index), second: UInt32(level), third: UInt32(part))
    case .part(let part): Words(first: UInt32(part))
    case .expertNode(let level, let index, let expert, let part):
      Words(first: UInt32(index), second: UInt32(part), third: UInt32(expert), fourth: UInt16(level))
    case .expertPart(let expert, let part): Words(first: UInt32(expert), second: UInt32(part))
    case .tensor(let number, let kind, let chunk):
      Words(first: UInt32(number), second: UInt32(kind), third: UInt32(chunk))
    case .copy(let step, let piece, let count):
      Words(first: UInt32(piece), second: UInt32(count), third: UInt32(step))
    }
  }

  /// Every combination of words is a subject of its phase; the receiver checks whether it expects it.
  init(_ phase: DataPhase, _ words: Words) {
    let (first, second, third) = (Int(words.first), Int(words.second), Int(words.third))
    switch phase {
    case .dispatchForward, .dispatchEvaluation, .dispatchBackward, .combineForward, .combineBackward:
      self = .site(unit: first, sequence: second, segment: third, recurrence: Int(words.fourth))
    case .unitFinished: self = .unit(first)
    case .gradient: self = .node(level: second, index: first, part: third)
    case .parameters: self = .part(first)
    case .norms, .probe, .echo: self = .step
    case .expertGradient:
      self = .expertNode(level: Int(words.fourth), index: first, expert: third, part: second)
    case .expertParameters: self = .expertPart(expert: first, part: second)
    case .state: self = .tensor(number: first, kind: second, chunk: third)
    case .mirror, .mirrored: self = .copy(step: third, piece: first, count: second)
    }
  }
}
