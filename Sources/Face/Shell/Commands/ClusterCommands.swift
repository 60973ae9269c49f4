// The two daemons, `ress coordinator` and `ress worker`.

package struct CoordinatorOptions: CommandOptions {
  package let listen: String
  package let addressFile: String?
  package let patienceSeconds: Double
  package let store: String
  package let http, httpTokenFile: String?
  package let roots: [String]
  package let allowsCommands, insecure: Bool

  package init(_ line: inout OptionReader) {
    listen = line.text(
      "--listen", "ADDRESS", default: CommandTable.standardAddress,
      "The address for workers and commands: tcp://HOST:PORT, with * for a free port, or ipc:///PATH on one machine.")
    addressFile = line.text(
      "--address-file", "FILE",
      "Write the address, with its actual port, to this file when the coordinator listens there; the file is removed when it ends."
    )
    patienceSeconds = line.real(
      "--patience", "SECONDS", 0.1...3_600, default: 10, "Silence after which a worker counts as lost.")
    store = line.text(
      "--store", "FILE", default: CommandTable.standardStore,
      "The database of runs and their stories (SQLite); :memory: stores nothing.")
    http = line.text(
      "--http", "HOST:PORT", "Serve a read-only dashboard at this address, and metrics for Prometheus at /metrics.")
    httpTokenFile = line.text(
      "--http-token", "FILE", "A file with the bearer token that HTTP clients must send (Authorization: Bearer).")
    roots = line.list(
      "--root", "FOLDER", "A folder to which reads and writes of runs are restricted, whatever a configuration says.")
    allowsCommands = line.flag(
      "--allow-commands",
      "Run the commands of cluster.on_end. Every user who may submit a run can then run any program with the rights of this process."
    )
    insecure = line.insecure()
  }
}

extension CommandDescription {
  package static let coordinator = CommandDescription(
    "coordinator", Command.coordinator, summary: "run the daemon that places runs on workers",
    discussion: """
      Waits for workers and runs. It assigns experts and units of every batch to the workers of a run, monitors the workers, and commits
      checkpoints. It computes nothing itself. It ends on Ctrl-C or SIGTERM.

      Its state is in its store, which is on disk before a request is answered: after a crash, or kill -9, start it again, and all runs
      continue. Workers keep training in the meantime. Each coordinator on a machine needs a store of its own.

      At an address that other machines can reach, connections are encrypted and only allowed keys can connect: `ress keys new`,
      `ress keys allow`.
      """,
    examples: [
      CommandExample("ress coordinator", "Serve workers and commands on this machine."),
      CommandExample(
        "ress coordinator --listen ipc:///tmp/ress.sock --store /var/lib/ress/runs.db",
        "At a Unix socket, with a store elsewhere."),
      CommandExample(
        "ress coordinator --listen tcp://10.0.0.1:7077 --root /scratch/ress",
        "For other machines, whose keys are allowed."),
    ])
}

package struct WorkerOptions: CommandOptions {
  package let coordinator: String
  /// Nil: the host's name and the process's number.
  package let name: String?
  package let threads: Int?
  /// Nil: a free port of this machine's loopback address.
  package let listen: String?
  package let joinWithinSeconds, returnWithinSeconds: Double
  package let insecure, endsWithInput: Bool

  package init(_ line: inout OptionReader) {
    coordinator = line.coordinator("The coordinator to work for.")
    name = line.text(
      "--name", "NAME", defaultText: "host name and process id", "Its name in messages and logs; it must be unique.")
    threads = line.threads(defaultText: "an equal share of the cores")
    listen = line.text(
      "--listen", "ADDRESS", defaultText: "a free port at 127.0.0.1",
      "The address for other workers: tcp://HOST:PORT, with * for a free port, or ipc:///PATH.")
    joinWithinSeconds = line.real(
      "--join-within", "SECONDS", 0.1...86_400, default: 30, "How long to try to reach the coordinator at the start.")
    returnWithinSeconds = line.real(
      "--return-within", "SECONDS", 0.1...1_000_000, default: 3600,
      "How long to keep working, and trying to reach the coordinator, after it is lost.")
    insecure = line.insecure()
    endsWithInput = line.flag(
      "--end-with-input", "End when standard input closes, so that the worker ends with its parent process.")
  }
}

extension CommandDescription {
  package static let worker = CommandDescription(
    "worker", Command.worker, summary: "compute for a coordinator",
    discussion: """
      Connects to a coordinator, waits for work, computes its share of a run and writes its part of checkpoints. Start one on each
      machine, or several on a large one. Workers may join and leave at any time: a run that needs more workers takes one in at the end of a
      step, and continues when one leaves. It ends on Ctrl-C or SIGTERM, or when its coordinator is absent for too long.

      A worker that is started by `mpirun -n 4 ress worker ...` or by `srun --mpi=pmix` is a rank and can take part in runs whose data
      travel over MPI (`cluster.exchange: mpi`): docs/mpi.md.
      """,
    examples: [
      CommandExample("ress worker", "Work for the coordinator on this machine, with all cores."),
      CommandExample(
        "ress worker --coordinator tcp://10.0.0.1:7077 --threads 8 --name node-3", "Work for a coordinator elsewhere."),
    ])
}
