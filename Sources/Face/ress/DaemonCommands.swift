// `ress coordinator` and `ress worker`: processes that run until a signal ends them.

import CLinux
import Configuration
import Daemon
import Foundation
import Glibc
import Kernels
import RunStore
import Shell
import Transport
import Wire
import Worker

func coordinator(_ options: CoordinatorOptions) throws -> ExitCode {
  Interrupt.block()
  signal(SIGPIPE, SIG_IGN)
  var settings = CoordinatorDaemon.Options(listen: options.listen, program: Version.program)
  settings.insecure = options.insecure
  settings.keys = ConnectionSecurity.listening(options.listen, insecure: options.insecure)
  settings.roots = options.roots
  settings.allowsCommands = options.allowsCommands
  settings.http = options.http
  if let path = options.httpTokenFile {
    guard let word = try? String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines),
      !word.isEmpty
    else { throw UsageError("--http-token: \(path) is empty", command: "coordinator") }
    settings.httpToken = word
  }
  settings.graph = { question throws(GraphError) in try GraphChild.compute(question) }
  settings.patienceSeconds = options.patienceSeconds
  settings.store = options.store
  settings.log = { Log.write($0) }
  settings.turned = ServiceManager.turned
  settings.fail = { reason in
    Log.write("ends: \(reason)")
    // Other threads are still running, so this exits without running destructors.
    _exit(ExitCode.failed.rawValue)
  }
  let daemon: CoordinatorDaemon
  do { daemon = try CoordinatorDaemon(settings) } catch let error as StoreError {
    throw ProcessError(
      description: error.advised(
        inUse: "choose another store for this coordinator with --store", foreign: "choose another file with --store"))
  }
  // Scripts wait for this file: it is complete as soon as it is there.
  if let file = options.addressFile {
    do { try (daemon.endpoint + "\n").write(toFile: file, atomically: true, encoding: .utf8) } catch {
      throw ProcessError(description: "--address-file: cannot write \(file): \(error.localizedDescription)")
    }
  }
  defer { if let file = options.addressFile { unlink(file) } }
  daemon.start()
  Log.write("\(Version.program) coordinator listens at \(daemon.endpoint) (process \(getpid())); Ctrl-C ends it")
  if let address = daemon.httpAddress {
    Log.write("dashboard: \(address)/ (metrics for Prometheus: \(address)/metrics)")
  }
  if let keys = settings.keys {
    Log.write(
      "connections are encrypted; the coordinator's key is \(try keys.key().publicKey), the allowed keys are in \(keys.allowedPath)"
    )
  }
  ServiceManager.ready("listens at \(daemon.endpoint)")
  let signal = Interrupt.wait()
  Log.write("ends, on \(signal)")
  ServiceManager.ending("ends, on \(signal)")
  daemon.stop()
  return .done
}

func worker(_ options: WorkerOptions) throws -> ExitCode {
  Interrupt.block()
  // A closed log must not end the worker.
  signal(SIGPIPE, SIG_IGN)
  // With it, the demo's workers used 80 MB each instead of 170, for 1 or 2 % of their processor time.
  ress_return_blocks_of(256 << 10)
  // Only one process of an MPI launch has an input; the launcher ends the others.
  if options.endsWithInput { Leash.follow() }
  let world = try RankStart.world()
  let host = ProcessInfo.processInfo.hostName
  let description = WorkerDescription(
    name: options.name ?? "\(host)-\(getpid())", host: host, process: Int(getpid()), dataAddress: "",
    // 0: an equal share of the cores, which is known when the worker has a run.
    threads: options.threads ?? 0, fingerprint: Fingerprint.measure(), program: Version.program,
    incarnation: UInt64.random(in: 1...UInt64.max))
  var settings = WorkerNetwork.Options(
    coordinator: options.coordinator, listen: options.listen ?? "tcp://127.0.0.1:*", description: description)
  settings.world = world
  settings.insecure = options.insecure
  settings.door = try ConnectionSecurity.toward(options.coordinator, insecure: options.insecure)
  settings.joinWithinSeconds = options.joinWithinSeconds
  settings.returnWithinSeconds = options.returnWithinSeconds
  // A launcher mixes the output of its ranks.
  let prefix = world.map { "rank \($0.place.rank): " } ?? ""
  let log: @Sendable (String) -> Void = { Log.write(prefix + $0) }
  settings.log = log
  settings.turned = ServiceManager.turned
  let process = try WorkerProcess(settings)
  ServiceManager.ready("works for \(options.coordinator) as \(description.name)")
  Interrupt.whenRequested { signal in
    log("ends, on \(signal)")
    ServiceManager.ending("ends, on \(signal)")
    RankStart.wasAsked.store(true, ordering: .releasing)
    process.leave(reason: "it was ended by \(signal)")
    end(.done)
  }
  // At an orderly exit HDF5 runs destructors, while the threads that train and save may still use them: files that are
  // being read would look damaged, and freed memory would be used. Nothing remains to be written, because a checkpoint
  // without a manifest does not count.
  @Sendable func end(_ code: ExitCode) -> Never { _exit(RankStart.ending(process, code).rawValue) }
  let reason = process.run()
  log("ends: \(reason)")
  end(RankStart.wasAsked.load(ordering: .acquiring) ? .done : .failed)
}
