// Profiles some steps of a run (`cluster.profile_steps`) and writes the result: RUN/profile/WORKER.txt for people,
// and WORKER.json for a trace viewer such as Perfetto.

import Kernels
import RunFolder
import Training
import Wire

final class StepProfile {
  private let assignment: Assignment
  private let steps: Range<Int>
  private var profile: Profile?

  /// Steps of a generation that are not profiled: caches and buffers are filled in them.
  private static let warmup = 5

  init(_ assignment: Assignment) {
    self.assignment = assignment
    let last = assignment.configuration.training.steps
    let wanted = assignment.configuration.cluster.profileSteps
    // A run that is too short for the warm-up is profiled in its last steps.
    let first = max(assignment.firstStep, min(assignment.firstStep + StepProfile.warmup, last - wanted))
    steps = first..<max(first, min(first + wanted, last))
  }

  /// Runs one training step, profiled if it is one of the wanted. Time between steps is not part of the profile.
  func step(_ step: Int, _ trainer: Trainer, wish: HaltWish, log: (String) -> Void) throws -> StepResult {
    guard steps.contains(step) else { return try trainer.step(step, wish: wish) }
    let profile =
      self.profile
      ?? Profile(
        laneCount: trainer.team.laneCount, teamCount: trainer.held.division.teams.count)
    self.profile = profile
    trainer.held.division.profile = profile
    defer { trainer.held.division.profile = nil }
    let result = try trainer.step(step, wish: wish)
    if step == steps.upperBound - 1 { try write(profile, laneCount: trainer.team.laneCount, log: log) }
    return result
  }

  private func write(_ profile: Profile, laneCount: Int, log: (String) -> Void) throws {
    let name = assignment.roster[assignment.index].worker.name
    let report = ProfileReport(
      profile, worker: name, laneCount: laneCount, firstStep: steps.lowerBound + 1, stepCount: steps.count)
    let folder = assignment.folder + "/profile"
    let path = folder + "/" + String(name.map { $0 == "/" ? "-" : $0 })
    try Durable.makeFolder(folder)
    try Durable.write(Array(report.text.utf8), to: path + ".txt")
    try Durable.write(Array(report.trace.utf8), to: path + ".json")
    self.profile = nil
    log("the profile of \(steps.count) steps is \(path).txt, its trace \(path).json")
  }
}
