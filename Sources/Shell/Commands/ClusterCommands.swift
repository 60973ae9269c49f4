// The descriptions of the two daemons, `ress coordinator` and `ress worker`.

extension CommandDescription {
  package static let coordinator = CommandDescription(
    "coordinator", summary: "run the daemon that places runs on workers",
    discussion: """
      Waits for workers and for runs. It gives each worker of a run its experts and its units of every batch, watches that all
      are alive, and commits checkpoints. It computes nothing itself. It ends with Ctrl-C or SIGTERM.

      What it knows is in its store, on disk before it answers: after a crash, or kill -9, start it again and all runs are there;
      workers that are training go on meanwhile. Coordinators of one machine need a store each.

      Where other machines can reach it, connections are encrypted, and only keys that were allowed come in: `ress keys new`,
      `ress keys allow`.
      """,
    options: [
      OptionDescription(
        "--listen", .text("ADDRESS"), standard: CommandTable.standardAddress,
        "Where workers and commands connect: tcp://HOST:PORT, or ipc:///PATH on one machine."),
      OptionDescription(
        "--patience", .real("SECONDS", 0.1...3_600), standard: "10",
        "Silence after which a worker counts as lost."),
      OptionDescription(
        "--store", .text("FILE"), standard: CommandTable.standardStore,
        "Where runs and their stories are kept (SQLite); :memory: keeps nothing."),
      OptionDescription(
        "--http", .text("HOST:PORT"),
        "Serve a dashboard there, and numbers for Prometheus at /metrics; nothing can be changed over it."),
      OptionDescription(
        "--http-token", .text("FILE"), "A file with the word that visitors must say (Authorization: Bearer)."),
      OptionDescription(
        "--root", .text("FOLDER"), repeats: true,
        "Runs may read and write below it alone, whatever a configuration says."),
      .insecure,
    ],
    examples: [
      CommandExample("ress coordinator", "Serve workers and commands on this machine."),
      CommandExample(
        "ress coordinator --listen ipc:///tmp/ress.sock --store /var/lib/ress/runs.db",
        "Without a port, and its store elsewhere."),
      CommandExample(
        "ress coordinator --listen tcp://10.0.0.1:7077 --root /scratch/ress",
        "For other machines, whose keys were allowed."),
    ])

  package static let worker = CommandDescription(
    "worker", summary: "compute for a coordinator",
    discussion: """
      Connects to a coordinator, waits for work, computes its share of a run and writes its part of checkpoints. Start one on each
      machine, or several on a large one. It may come and go at any time: runs that want more workers take it in at the end of a step,
      and go on without it. It ends with Ctrl-C or SIGTERM, or when its coordinator is gone for too long.

      Started by `mpirun -n 4 ress worker ...` or by `srun --mpi=pmix` it is a rank, and can take part in runs whose data travel over
      MPI (`cluster.exchange: mpi`): docs/mpi.md.
      """,
    options: [
      OptionDescription(
        "--coordinator", .text("ADDRESS"), standard: CommandTable.standardAddress, "The coordinator to work for."),
      OptionDescription(
        "--name", .text("NAME"), standard: "host name and process id",
        "What messages and logs call it; one name, one worker."),
      .threads(standard: "an equal share of the cores"),
      OptionDescription(
        "--listen", .text("ADDRESS"), standard: "a free port of this machine, for this machine",
        "Where other workers connect to this one: tcp://HOST:PORT, with * for a free port, or ipc:///PATH."),
      OptionDescription(
        "--join-within", .real("SECONDS", 0.1...86_400), standard: "30", "How long to look for the coordinator."),
      OptionDescription(
        "--return-within", .real("SECONDS", 0.1...1_000_000), standard: "3600",
        "How long to work on, and look, after a coordinator that was there is gone."),
      .insecure,
      OptionDescription(
        "--end-with-input", "End when standard input closes: a parent that dies takes its workers with it."),
    ],
    examples: [
      CommandExample("ress worker", "Work for the coordinator on this machine, with all cores."),
      CommandExample(
        "ress worker --coordinator tcp://10.0.0.1:7077 --threads 8 --name node-3", "Work for a coordinator elsewhere."),
    ])
}
