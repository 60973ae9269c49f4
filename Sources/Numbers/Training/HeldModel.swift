// What one worker holds of a model: all dense parameters, the experts that it holds, the gradients of those experts,
// and the threads that compute with them. It is made first; the exchanges and the trainer are made from it.

import Configuration
import Kernels
import Model

package final class HeldModel {
  package let plan: WorkPlan
  package let sizes: Sizes
  /// All threads, and the teams that they form while units are computed.
  package let team: Team
  package let division: TeamDivision
  package let parameters: ParameterBuffer
  package let weights: Weights
  package let experts: LocalExperts
  /// The same experts for each team.
  package let teamExperts: [LocalExperts]
  package let expertGradients: ExpertGradients
  package var layout: ParameterLayout { parameters.layout }

  /// Packs the weights, if the parameters have changed. Must be called before teams compute, which only read them.
  func refresh() {
    weights.refresh(team)
    experts.refresh()
  }

  /// Whether the experts' weights are packed for products. If few rows reach an expert at once, and the experts are too
  /// large for caches, the memory's speed limits the products. Then a packed copy makes little faster, and it would
  /// double the memory of the weights.
  package static func packsExperts(_ configuration: RunConfiguration, _ layout: ParameterLayout) -> Bool {
    let model = configuration.model
    guard model.precision == .fp32, layout.experts.count * layout.expertCount >= manyValues else { return true }
    let tokens = min(model.segment, configuration.data.sequenceLength)
    return tokens * model.activeExperts > LinearMap.fewRows * model.experts
  }

  /// 128 MiB, more than most caches have.
  private static let manyValues = 1 << 25

  /// Parameters are initialised from the seed.
  /// - Parameters:
  ///   - teams: number of teams, at most the threads; they compute units side by side.
  ///   - isLoaded: skips the initialisation, for parameters that will be overwritten, from a checkpoint for example.
  package convenience init(
    _ configuration: RunConfiguration, vocabulary: Int, plan: WorkPlan, threads: Int, teams: Int = 1,
    isLoaded: Bool = false
  ) {
    self.init(
      configuration, vocabulary: vocabulary, plan: plan, Team(laneCount: threads), teams: teams, isLoaded: isLoaded)
  }

  /// - Parameter team: all threads.
  package init(
    _ configuration: RunConfiguration, vocabulary: Int, plan: WorkPlan, _ team: Team, teams: Int = 1,
    isLoaded: Bool = false
  ) {
    self.plan = plan
    let model = configuration.model
    sizes = Sizes(model, vocabulary: vocabulary)
    self.team = team
    division = TeamDivision(team, count: min(teams, team.laneCount))
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    parameters = ParameterBuffer(layout, experts: plan.heldExperts)
    if !isLoaded { parameters.initialize(seed: configuration.training.seed) }
    weights = Weights(parameters, model)
    experts = LocalExperts(
      model, parameters: parameters, held: plan.heldExperts, team: team,
      packs: HeldModel.packsExperts(configuration, layout))
    let experts = experts
    teamExperts = division.teams.map { $0 === team ? experts : LocalExperts(sharing: experts, team: $0) }
    expertGradients = ExpertGradients(
      experts, plan, layout: layout,
      delay: GradientDelay.level(
        configuration, layout, workers: plan.workerCount, lanes: plan.lanes * division.teams.count),
      teams: teamExperts)
  }
}

/// How a worker reaches the experts and the gradients of the others.
package struct Exchanges {
  /// By team.
  package let experts: [any ExpertExchange]
  package let gradients: any GradientExchange
  /// Let each team have two units under way; empty where a unit never waits.
  package let relays: [Relay]

  /// The exchanges of a worker without peers.
  package init(alone held: HeldModel) {
    experts = held.teamExperts
    gradients = LocalGradientExchange(held.expertGradients, held.sizes)
    relays = []
  }

  package init(_ gradients: any GradientExchange, experts: [any ExpertExchange], relays: [Relay]) {
    (self.experts, self.gradients, self.relays) = (experts, gradients, relays)
  }
}
