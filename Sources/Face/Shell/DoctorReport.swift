// `ress doctor`: the properties of this machine, those that would stop or slow a run, and the remedies. The command
// gathers the facts; they are judged here, where a test can supply any machine.

import Configuration

/// The measured facts. Optionals are nil where a measurement was not possible.
package struct MachineFacts: Equatable, Sendable {
  package struct Library: Equatable, Sendable {
    package var name: String
    package var version: String
    package var detail: String

    package init(_ name: String, _ version: String, _ detail: String = "") {
      self.name = name
      self.version = version
      self.detail = detail
    }
  }

  package struct Folder: Equatable, Sendable {
    package var path: String
    package var isWritable: Bool
    package var freeBytes: Int?

    package init(path: String, isWritable: Bool, freeBytes: Int?) {
      self.path = path
      self.isWritable = isWritable
      self.freeBytes = freeBytes
    }
  }

  package var program = ""
  package var system = ""
  package var libraries: [Library] = []
  package var processor = ""
  /// Instruction sets of the processor, in Linux's spelling (`avx2`).
  package var processorFlags: Set<String> = []
  package var kernelClone = ""
  package var fingerprint = ""
  package var cores = 1
  package var memoryBytes = 0
  package var availableMemoryBytes = 0
  package var temporary = Folder(path: "/tmp", isWritable: true, freeBytes: nil)
  package var checkpoints = Folder(path: "checkpoints", isWritable: true, freeBytes: nil)
  /// Why two sockets could not exchange a message over an ipc address in the temporary folder; nil if they could.
  package var ipcFailure: String?
  /// The speed of one thread, on a product of a typical shape in training.
  package var gigaflops: Double?
  /// The same with bf16 factors, in relation to single precision.
  package var bf16: BF16Speed?
  package var openFileLimit = 0

  package init() {}
}

package struct DoctorReport: Equatable, Sendable {
  package enum Verdict: String, Sendable { case good = "ok", slow = "slow", broken = "fails" }

  package struct Finding: Equatable, Sendable {
    package var subject: String
    package var verdict: Verdict
    package var found: String
    /// What to do; empty if nothing needs to be done.
    package var remedy: String
  }

  package let findings: [Finding]

  /// Whether a run can work on this machine.
  package var isUsable: Bool { !findings.contains { $0.verdict == .broken } }

  package init(_ facts: MachineFacts) {
    var findings = [
      Finding(subject: "ress", verdict: .good, found: facts.program, remedy: ""),
      Finding(subject: "system", verdict: .good, found: facts.system, remedy: ""),
    ]
    findings += facts.libraries.map {
      Finding(
        subject: $0.name, verdict: .good, found: $0.version + ($0.detail.isEmpty ? "" : ", " + $0.detail), remedy: "")
    }
    findings += [
      Self.processor(facts), Self.kernels(facts), Self.speed(facts), Self.bf16(facts),
      Finding(subject: "numerics", verdict: .good, found: facts.fingerprint, remedy: ""),
      Self.memory(facts), Self.files(facts), Self.folder("temporary files", facts.temporary, needed: 64 << 20),
      Self.ipc(facts), Self.folder("checkpoints", facts.checkpoints, needed: 1 << 30),
    ]
    self.findings = findings
  }

  // MARK: Judgements

  private static func processor(_ facts: MachineFacts) -> Finding {
    let sets = ["avx512f", "avx2", "fma", "avx", "sse4_2", "asimd"].filter(facts.processorFlags.contains)
    let found =
      "\(facts.processor), \(Format.count(facts.cores, "core"))"
      + (sets.isEmpty ? "" : ", " + sets.joined(separator: " "))
    let fast = facts.processorFlags.contains("avx2") || facts.processorFlags.contains("asimd")
    return Finding(
      subject: "processor", verdict: fast ? .good : .slow, found: found,
      remedy: fast
        ? "" : "no AVX2: training works, but is several times slower; in a virtual machine, pass the host's CPU through"
    )
  }

  private static func kernels(_ facts: MachineFacts) -> Finding {
    Finding(subject: "kernels", verdict: .good, found: "for \(facts.kernelClone)", remedy: "")
  }

  private static func speed(_ facts: MachineFacts) -> Finding {
    guard let gigaflops = facts.gigaflops else {
      return Finding(
        subject: "speed", verdict: .broken, found: "not measured",
        remedy: "the matrix product did not run; see the lines above")
    }
    let found = "\(Format.fixed(gigaflops, 1)) GFLOP/s a core (single precision, 256 × 256 × 256)"
    // A core of 2013 with AVX2 reaches some 40; a tenth of that means emulation or a machine shared with many.
    return Finding(
      subject: "speed", verdict: gigaflops < 4 ? .slow : .good, found: found,
      remedy: gigaflops < 4 ? "very slow for one core; check whether other programs use this machine" : "")
  }

  private static func bf16(_ facts: MachineFacts) -> Finding {
    let found =
      facts.bf16.map { "\(Format.fixed($0.rounded, 1)) GFLOP/s a core with model.precision: bf16, \($0.text)" }
      ?? "not measured"
    return Finding(subject: "bf16", verdict: .good, found: found, remedy: "")
  }

  private static func memory(_ facts: MachineFacts) -> Finding {
    let found = "\(Format.bytes(facts.memoryBytes)), \(Format.bytes(facts.availableMemoryBytes)) available"
    let little = facts.availableMemoryBytes < 1 << 30
    return Finding(
      subject: "memory", verdict: little ? .slow : .good, found: found,
      remedy: little ? "less than 1 GiB is available; use small models, or training.recompute: always" : "")
  }

  private static func files(_ facts: MachineFacts) -> Finding {
    let few = facts.openFileLimit < 256
    return Finding(
      subject: "open files", verdict: few ? .slow : .good, found: "\(Format.grouped(facts.openFileLimit)) a process",
      remedy: few ? "raise it with `ulimit -n 1024`; each worker keeps a connection to every other" : "")
  }

  private static func folder(_ subject: String, _ folder: MachineFacts.Folder, needed: Int) -> Finding {
    let free = folder.freeBytes.map { ", \(Format.bytes($0)) free" } ?? ""
    if !folder.isWritable {
      return Finding(
        subject: subject, verdict: .broken, found: "\(folder.path) cannot be written",
        remedy: subject == "checkpoints"
          ? "change its owner, or set checkpoint.directory" : "change its mode (chmod 1777 /tmp), or set TMPDIR")
    }
    if let bytes = folder.freeBytes, bytes < needed {
      return Finding(
        subject: subject, verdict: .slow, found: folder.path + free,
        remedy: "less than \(Format.bytes(needed)) is free; delete files that are not needed")
    }
    return Finding(subject: subject, verdict: .good, found: folder.path + free, remedy: "")
  }

  private static func ipc(_ facts: MachineFacts) -> Finding {
    if let failure = facts.ipcFailure {
      return Finding(
        subject: "local sockets", verdict: .broken, found: failure,
        remedy: "`ress train` needs them; set TMPDIR to a folder on a local disk with a short path")
    }
    return Finding(subject: "local sockets", verdict: .good, found: "a message went there and back", remedy: "")
  }

  // MARK: Text

  package var text: String {
    var table = TextTable([("check", .left), ("", .left), ("found", .left)])
    for finding in findings {
      table.add([finding.subject, finding.verdict.rawValue, finding.found])
      if !finding.remedy.isEmpty { table.add(["", "", "→ " + finding.remedy]) }
    }
    let broken = findings.count { $0.verdict == .broken }, slow = findings.count { $0.verdict == .slow }
    let verdict =
      if broken > 0 {
        "\(Format.count(broken, "check")) failed: runs will not work on this machine until the problems marked with → are fixed."
      } else if slow > 0 {
        "Runs work on this machine; \(Format.count(slow, "finding")) could be improved."
      } else {
        "All good. Next: make demo, or ress train --help"
      }
    return table.text + "\n\n" + verdict
  }

  package var json: String {
    let rows = findings.map {
      JSON.object([
        ("check", .text($0.subject)), ("verdict", .text($0.verdict.rawValue)), ("found", .text($0.found)),
        ("remedy", .text($0.remedy)),
      ])
    }
    return JSON.object([("usable", .flag(isUsable)), ("checks", .array(rows))]).line
  }
}
