// The doctor's judgement over machines that we do not have.

import Shell
import Testing

private func healthy() -> MachineFacts {
  var facts = MachineFacts()
  facts.program = "ress 0.1.0"
  facts.system = "Linux 6.1"
  facts.libraries = [.init("libzmq", "4.3.4"), .init("HDF5", "1.10.8")]
  facts.processor = "A CPU"
  facts.processorFlags = ["avx2", "fma"]
  facts.kernelClone = "x86-64-v3"
  facts.fingerprint = "ress-1/9c3f2b7a11d04e56"
  facts.cores = 2
  facts.memoryBytes = 8 << 30
  facts.availableMemoryBytes = 6 << 30
  facts.temporary = .init(path: "/tmp", isWritable: true, freeBytes: 10 << 30)
  facts.checkpoints = .init(path: "checkpoints", isWritable: true, freeBytes: 10 << 30)
  facts.gigaflops = 50
  facts.openFileLimit = 1024
  return facts
}

@Suite struct `The report of ress doctor` {
  @Test func `a healthy machine is good in every line`() {
    let report = DoctorReport(healthy())
    #expect(report.isUsable)
    #expect(report.findings.allSatisfy { $0.verdict == .good && $0.remedy.isEmpty })
    #expect(report.text.hasSuffix("All good. Next: make demo, or ress train --help"))
    #expect(report.text.contains("50.0 GFLOP/s a core"))
    #expect(report.text.contains("A CPU, 2 cores, avx2 fma"))
  }

  @Test func `the speed of bf16 is reported with its reason`() {
    func text(_ implementation: String, _ hasInstruction: Bool, _ rounded: Double) -> String {
      var facts = healthy()
      facts.bf16 = BF16Speed(
        implementation: implementation, hasInstruction: hasInstruction, single: 100, rounded: rounded)
      return DoctorReport(facts).findings.first { $0.subject == "bf16" }!.found
    }
    #expect(
      text("avx512-bf16", true, 180)
        == "180.0 GFLOP/s a core with model.precision: bf16, 1.80 times the speed of fp32 (AVX512-BF16)")
    #expect(
      text("fused", true, 90).hasSuffix(
        "0.90 times the speed of fp32 (fused multiply-adds; the processor's AVX512-BF16 is slower and is not used)"))
    #expect(text("fused", false, 90).hasSuffix("(fused multiply-adds; the processor has no AVX512-BF16)"))
    #expect(text("exact", false, 0.3).contains("every product is computed in C"))
  }

  @Test func `problems that stop a run differ from those that slow it`() {
    var facts = healthy()
    facts.processorFlags = []
    facts.availableMemoryBytes = 100 << 20
    #expect(DoctorReport(facts).isUsable)
    #expect(DoctorReport(facts).text.hasSuffix("Runs work on this machine; 2 findings could be improved."))

    facts.ipcFailure = "bind failed"
    facts.checkpoints.isWritable = false
    let report = DoctorReport(facts)
    #expect(!report.isUsable)
    #expect(report.text.contains("2 checks failed"))
    #expect(report.text.contains("→ change its owner, or set checkpoint.directory"))
  }

  @Test func `every finding that is not good has a remedy`() {
    var facts = healthy()
    facts.processorFlags = []
    facts.gigaflops = 1
    facts.availableMemoryBytes = 0
    facts.openFileLimit = 64
    facts.temporary = .init(path: "/tmp", isWritable: false, freeBytes: 0)
    facts.checkpoints = .init(path: "checkpoints", isWritable: true, freeBytes: 1)
    facts.ipcFailure = "no"
    let bad = DoctorReport(facts).findings.filter { $0.verdict != .good }
    #expect(bad.count == 7)
    #expect(bad.allSatisfy { !$0.remedy.isEmpty })
  }

  @Test func `the kernels' instruction set and the numerics are shown`() {
    let text = DoctorReport(healthy()).text
    #expect(text.contains("for x86-64-v3") && text.contains("ress-1/9c3f2b7a11d04e56"))
  }

  @Test func `programs read the same as JSON`() {
    let json = DoctorReport(healthy()).json
    #expect(
      json.hasPrefix(
        #"{"usable": true, "checks": [{"check": "ress", "verdict": "ok", "found": "ress 0.1.0", "remedy": ""}"#))
  }
}
