// What one worker holds of a model: all dense parameters, the experts that it holds, the gradients of those experts,
// and the threads that compute with them. It is made first; the exchanges and the trainer are made from it.

import Configuration
import Kernels
import Model

package final class HeldModel {
  package let plan: WorkPlan
  package let sizes: Sizes
  package let team: Team
  package let parameters: ParameterBuffer
  package let weights: Weights
  package let experts: LocalExperts
  package let expertGradients: ExpertGradients
  package var layout: ParameterLayout { parameters.layout }

  /// Parameters are initialised from the seed.
  /// - Parameter isLoaded: skips the initialisation, for parameters that will be overwritten, from a checkpoint for
  ///   example.
  package init(
    _ configuration: RunConfiguration, vocabulary: Int, plan: WorkPlan, threads: Int, isLoaded: Bool = false
  ) {
    self.plan = plan
    let model = configuration.model
    sizes = Sizes(model, vocabulary: vocabulary)
    team = Team(laneCount: threads)
    let layout = ParameterLayout(configuration, vocabulary: vocabulary)
    parameters = ParameterBuffer(layout, experts: plan.heldExperts)
    if !isLoaded { parameters.initialize(seed: configuration.training.seed) }
    weights = Weights(parameters, model)
    experts = LocalExperts(model, parameters: parameters, held: plan.heldExperts, team: team)
    expertGradients = ExpertGradients(
      experts, plan, layout: layout,
      delay: GradientDelay.level(configuration, layout, workers: plan.workerCount, lanes: plan.lanes))
  }
}

/// How a worker reaches the experts and the gradients of the others.
package struct Exchanges {
  package let experts: any ExpertExchange
  package let gradients: any GradientExchange
  /// Lets two units of this worker be under way at once; nil where a unit never waits.
  package let relay: Relay?

  /// The exchanges of a worker without peers.
  package init(alone held: HeldModel) {
    experts = held.experts
    gradients = LocalGradientExchange(held.expertGradients, held.sizes)
    relay = nil
  }

  package init(_ peers: any ExpertExchange & GradientExchange, _ relay: Relay?) {
    (experts, gradients, self.relay) = (peers, peers, relay)
  }
}
