// What a coordinator's process is started with.

extension CoordinatorDaemon {
  package struct Options: Sendable {
    package var listen: String
    package var insecure = false
    /// The coordinator's key and the allowed keys; nil: every process that reaches the address may connect, without
    /// encryption.
    package var keys: KeyFolder?
    /// Folders below which runs may read and write; empty: all folders.
    package var roots: [String] = []
    /// Whether the commands of `cluster.on_end` are run, with the rights of this process.
    package var allowsCommands = false
    /// The address of the HTTP server, `HOST:PORT`, and the bearer token that clients must send; nil: no server.
    package var http: String?
    package var httpToken: String?
    /// Computes the token graph of a sample for the dashboard, as JSON (`ress graph`); nil: there are no graphs.
    package var graph: (@Sendable (GraphQuestion) throws(GraphError) -> [UInt8])?
    package var patienceSeconds = 10.0
    package var program: String
    /// The file of the store; `:memory:` stores nothing.
    package var store = ":memory:"
    /// Runs that the previous coordinator left unfinished lost their workers with it, and are paused until a user
    /// resumes them.
    package var pausesUnfinished = false
    package var log: @Sendable (String) -> Void = { _ in }
    /// Called several times a second by the loop, for a watchdog.
    package var turned: @Sendable () -> Void = {}
    /// A message that the user should see at once, because it cannot be stored.
    package var alarm: (@Sendable (String) -> Void)?
    /// Called when the store is broken: nothing more is answered, and the process should end. Without it the reason is
    /// logged.
    package var fail: (@Sendable (String) -> Void)?

    package init(listen: String, program: String) {
      self.listen = listen
      self.program = program
    }
  }
}
