// Which connections are encrypted: all that leave the machine, and all connections if `RESS_KEYS` names a folder of
// keys.

import Daemon
import Foundation
import Shell
import Transport

enum ConnectionSecurity {
  /// `RESS_KEYS=none` turns encryption off.
  private static var named: String? {
    ProcessInfo.processInfo.environment["RESS_KEYS"].flatMap { $0.isEmpty ? nil : $0 }
  }

  /// How to connect to a coordinator.
  static func toward(_ address: String, insecure: Bool = false) throws -> Door {
    guard let folder = keys(for: address, insecure) else { return .open }
    return .known(try folder.key(), server: try folder.server())
  }

  /// The keys of a coordinator that listens at an address; nil without encryption.
  static func listening(_ address: String, insecure: Bool) -> KeyFolder? { keys(for: address, insecure) }

  private static func keys(for address: String, _ insecure: Bool) -> KeyFolder? {
    let folder = KeyFolder.standard
    guard !insecure, named != "none", named != nil || EndpointPolicy.leavesMachine(address) && folder.hasKey else {
      return nil
    }
    return folder
  }

  static func client(_ address: String) throws -> CoordinatorClient {
    try CoordinatorClient(address, door: toward(address))
  }
}
