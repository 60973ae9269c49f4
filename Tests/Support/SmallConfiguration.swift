// A model with all its parts that trains in milliseconds.

import Configuration

extension RunConfiguration {
  /// A configuration with that model. A test sets its data, batch and steps.
  package static var smallModel: RunConfiguration {
    var c = RunConfiguration()
    c.model.width = 16
    c.model.heads = 2
    c.model.steps = 2
    c.model.segment = 16
    c.model.memorySlots = 3
    c.model.cache = 8
    c.model.window = 3
    c.model.structureRank = 4
    c.model.graphDegree = 3
    c.model.keys = 4
    c.model.recencyTaps = 2
    c.model.experts = 4
    c.model.expertWidth = 8
    return c
  }
}
