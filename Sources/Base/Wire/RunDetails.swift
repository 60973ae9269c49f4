// What a run was submitted with: the answer to a request about one run. A status, which describes all runs several
// times a second, has no room for their configurations.

import Configuration

package struct RunDetails: Codable, Equatable, Sendable {
  package var id: RunID
  package var name: String
  package var configuration: RunConfiguration
  /// The folder of its checkpoints and metrics, as a path on the coordinator's machine.
  package var folder: String
  /// The key of the user who submitted it; nil without encryption.
  package var owner: PublicKey?
  /// Digests of the data that it trains on; nil until a worker has reported them.
  package var data: DataIdentity?

  package init(
    id: RunID, name: String, configuration: RunConfiguration, folder: String, owner: PublicKey? = nil,
    data: DataIdentity? = nil
  ) {
    self.id = id
    self.name = name
    self.configuration = configuration
    self.folder = folder
    self.owner = owner
    self.data = data
  }
}
