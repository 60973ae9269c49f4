// Which requests the coordinator accepts: the rights of the sender's key, the folders that runs may use, and commands
// of users. A refusal is a sentence for the client, and one for the log where an administrator should know.

import Coordination
import Transport
import Wire

struct Admission {
  struct Refusal: Error {
    /// What the client is told.
    var reason: String
    /// What the log gets.
    var complaint: String?
  }

  let roots: AllowedRoots
  /// The keys that may connect; nil: every process may do everything.
  let allowList: AllowList?
  let allowsCommands: Bool

  /// The request in the form in which it is passed on.
  /// - Parameters:
  ///   - user: the key that the sender has authenticated with.
  ///   - owner: finds the key of the user who submitted a run, by its name or identifier.
  func admit(
    _ request: Request, of user: PublicKey?, owner: (String) -> PublicKey?
  ) throws(Refusal) -> Request {
    var request = request
    if case .submit(var submission) = request {
      if let complaint = roots.complaint(submission) { throw Refusal(reason: complaint) }
      if !submission.configuration.cluster.onEnd.isEmpty, !allowsCommands {
        throw Refusal(
          reason: "cluster.on_end is a command, and this coordinator runs no commands of users; leave it out with "
            + "--set cluster.on_end=null, or ask the administrator to start it with --allow-commands")
      }
      submission.owner = user
      request = .submit(submission)
    }
    guard let allowList else { return request }
    if case .hello(var description, let heartbeat) = request {
      // The name of a worker belongs to the key of its connection, whatever key the message contains.
      description.publicKey = user
      request = .hello(description, heartbeat)
    }
    let known = user.flatMap { allowList.find($0) }
    guard let known, known.role.allows(request, isOwner: Self.isOwner(user, of: request, owner)) else {
      let role = known.map { "'\($0.role.rawValue)'" } ?? "none"
      throw Refusal(
        reason:
          "your key has the role \(role), which may not do this; the coordinator's administrator can change it with: "
          + "ress keys allow '\(user?.text ?? "KEY")' --role ROLE",
        complaint: "refused a request of \(known?.name ?? "an unknown key"), whose role is \(role)")
    }
    return request
  }

  private static func isOwner(_ user: PublicKey?, of request: Request, _ owner: (String) -> PublicKey?) -> Bool {
    switch request {
    case .change(let run, _): user != nil && owner(run) == user
    case .submit(let submission): user != nil && owner(submission.configuration.run) == user
    case .hello, .heartbeat, .report, .goodbye, .follow, .status, .describe: false
    }
  }
}
