// swift-tools-version: 6.2
// ress: one executable that is coordinator, worker and command line. ARCHITECTURE.md explains the targets;
// arrows between them point down only, and numbers and control meet in the folder `Worker` alone.
//
// RESS_DOUBLE=1 builds the numeric half in double precision, so that the gradient tests can compare
// against central differences to nine digits instead of three.
import PackageDescription

let doublePrecision = Context.environment["RESS_DOUBLE"] == "1"

let swiftSettings: [SwiftSetting] =
  [.swiftLanguageMode(.v6), .enableUpcomingFeature("ExistentialAny")]
  + (doublePrecision ? [.define("RESS_DOUBLE"), .unsafeFlags(["-Xcc", "-DRESS_DOUBLE"])] : [])

/// `-O3` for the vectoriser; errno and traps off, because they keep loops with `sqrtf` scalar. The compiler fuses no multiplication and
/// addition by itself: the kernels say where one rounding is meant, so that every processor computes the same bits.
let kernelSettings: [CSetting] =
  [.unsafeFlags(["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"])]
  + (doublePrecision ? [.define("RESS_DOUBLE")] : [])

/// Where the sources of a target lie: the folders show the layers.
let layers: [String: [String]] = [
  "Base": ["CChecksum", "Checksum", "Configuration", "Wire", "RunFolder"],
  "Numbers": ["CKernels", "Kernels", "OpenBLAS", "Model", "Data", "Training", "Checkpoint", "HDF5"],
  "Control": ["Coordination", "Transport", "RunStore", "Daemon"],
  "Worker": ["Exchange", "Trained", "Worker"],
  "Face": ["Shell", "HTTP", "Dashboard", "ress"],
]

func sources(_ name: String) -> String {
  let layer = layers.first { $0.value.contains(name) }?.key
  return layer.map { "Sources/\($0)/\(name)" } ?? "Sources/\(name)"
}

func library(_ name: String, pkgConfig: String? = nil, apt packages: String...) -> Target {
  .systemLibrary(
    name: name, path: "Sources/C/\(name)", pkgConfig: pkgConfig, providers: packages.isEmpty ? nil : [.apt(packages)])
}

/// A target names every module whose types it stores, not only those it calls: after a change of a struct in `Configuration` an
/// incremental build was seen to leave a target that reached it through another one with the old layout, and it crashed.
func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, path: sources(name), swiftSettings: swiftSettings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name + "Tests", dependencies: dependencies, swiftSettings: swiftSettings)
}

/// What tests of several targets share: chance from one seed, and waiting.
let support = Target.target(
  name: "TestSupport", dependencies: ["Configuration"], path: "Tests/Support", swiftSettings: swiftSettings)

let numbers: [Target] = [
  library("COpenBLAS", pkgConfig: "openblas", apt: "libopenblas-dev"),
  library("CYAML", pkgConfig: "yaml-0.1", apt: "libyaml-dev"),
  .target(name: "CKernels", path: sources("CKernels"), cSettings: kernelSettings),
  module("Configuration", ["CYAML"]),
  module("Kernels", ["CKernels"]),
  // The reference that our products are tested and timed against; the program does not use it.
  module("OpenBLAS", ["COpenBLAS", "Kernels"]),
  module("Model", ["Kernels", "Configuration"]),
  tests("Kernels", ["Kernels", "CKernels", "OpenBLAS"]),
  tests("Model", ["Model", "Configuration"]),
]

let system: [Target] = [
  // No pkg-config name: Debian's libzmq.pc carries Kerberos include flags that SwiftPM refuses with a warning.
  library("CZeroMQ", apt: "libzmq3-dev"),
  library("CHDF5", pkgConfig: "hdf5", apt: "libhdf5-dev"),
  library("CCrypto", pkgConfig: "libcrypto", apt: "libssl-dev"),
  library("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
  library("CMicrohttpd", pkgConfig: "libmicrohttpd", apt: "libmicrohttpd-dev"),
  library("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
  library("CZstd", pkgConfig: "libzstd", apt: "libzstd-dev"),
  // No pkg-config name: Debian's libbz2-dev has no file for it.
  library("CBZip2", apt: "libbz2-dev"),
  library("CLZMA", pkgConfig: "liblzma", apt: "liblzma-dev"),
  library("CLZ4", pkgConfig: "liblz4", apt: "liblz4-dev"),
  library("CPCRE2", pkgConfig: "libpcre2-8", apt: "libpcre2-dev"),
  // A C++ library, behind C functions. Debian: libsentencepiece-dev.
  .target(
    name: "CSentencePiece", path: "Sources/C/CSentencePiece", linkerSettings: [.linkedLibrary("sentencepiece")]),
  library("CSystemd", pkgConfig: "libsystemd", apt: "libsystemd-dev"),
  library("CLinux"),
  // The table of functions of the plug-in that scripts/mpi.sh builds: no MPI library is needed here.
  library("CMPI"),
  module("HDF5", ["CHDF5"]),
  module(
    "Data",
    [
      "CZlib", "CZstd", "CBZip2", "CLZMA", "CLZ4", "CPCRE2", "CSentencePiece", "CLinux", "Checksum", "HDF5",
      "RunFolder", "Model", "Configuration",
    ]),
  module("Training", ["Model", "Data", "Checksum", "Configuration"]),
  module("RunFolder", ["CCrypto", "CLinux", "Configuration"]),
  module("Checkpoint", ["Checksum", "HDF5", "RunFolder", "Model", "Configuration"]),
  .target(name: "CChecksum", path: sources("CChecksum"), cSettings: [.unsafeFlags(["-O3"])]),
  module("Checksum", ["CChecksum"]),
  module("Wire", ["Checksum", "Configuration"]),
  module("Coordination", ["Wire", "Configuration"]),
  module("RunStore", ["CSQLite", "RunFolder", "Wire"]),
  module("Transport", ["CZeroMQ", "CMPI", "CLinux", "Wire", "Configuration"]),
  module("HTTP", ["CMicrohttpd", "Configuration"]),
  .target(
    name: "Dashboard", path: sources("Dashboard"),
    resources: [
      "index.html", "style.css", "icon.svg", "app.js", "page.js", "cluster.js", "runs.js", "run.js", "compare.js",
      "overlay.js", "chart.js", "experts.js", "graph.js",
    ].map { .embedInCode("Page/" + $0) }, swiftSettings: swiftSettings),
  module(
    "Daemon", ["HTTP", "Dashboard", "Coordination", "RunStore", "Transport", "RunFolder", "Wire", "Configuration"]),
  module("Exchange", ["Training", "Wire", "Model", "Kernels", "Configuration", "CLinux"]),
  module(
    "Trained",
    ["Exchange", "Training", "Checkpoint", "RunFolder", "Data", "Wire", "Model", "Kernels", "Configuration"]),
  module(
    "Worker",
    [
      "Exchange", "Trained", "Training", "Checkpoint", "RunFolder", "Data", "Transport", "Coordination", "Wire",
      "Model",
      "Kernels", "Configuration", "CLinux",
    ]),
  module("Shell", ["Wire", "Checksum", "Configuration"]),
  .executableTarget(
    name: "ress",
    dependencies: [
      "Shell", "Kernels", "Model", "Data", "Training", "RunFolder", "RunStore", "Checkpoint", "Coordination", "Daemon",
      "Trained", "Worker", "Transport", "Wire", "Configuration", "CHDF5", "CZeroMQ", "CLinux", "CSystemd",
    ],
    path: sources("ress"), resources: [.embedInCode("Slurm/job.sh"), .embedInCode("Slurm/sweep.sh")],
    swiftSettings: swiftSettings),
  // Measures the training step; Benchmarks/README.md. It counts allocations by standing before the C library's.
  .target(name: "CAllocations", path: "Benchmarks/CAllocations"),
  .executableTarget(
    name: "ress-bench",
    dependencies: [
      "CAllocations", "Training", "Model", "Kernels", "OpenBLAS", "Coordination", "Wire", "Configuration",
    ],
    path: "Benchmarks/Steps", swiftSettings: swiftSettings),
  // Measures what workers tell each other, over ZeroMQ and MPI; Benchmarks/exchange.py.
  .executableTarget(
    name: "ress-exchange",
    dependencies: ["Worker", "Exchange", "Training", "Model", "Kernels", "Transport", "Wire", "Configuration"],
    path: "Benchmarks/Exchange", exclude: ["README.md"], swiftSettings: swiftSettings),
  tests("Configuration", ["Configuration"]),
  tests("Data", ["Data", "HDF5", "CZstd", "CBZip2", "CLZMA", "CLZ4", "Training", "Configuration", "TestSupport"]),
  tests("Training", ["Training", "Model", "Kernels", "Configuration", "TestSupport"]),
  tests("Checkpoint", ["Checkpoint", "HDF5", "RunFolder", "Model", "Configuration", "TestSupport"]),
  tests("Wire", ["Wire", "CChecksum", "Checksum", "Configuration", "TestSupport"]),
  tests("Coordination", ["Coordination", "Wire", "Configuration"]),
  tests("Transport", ["Transport", "Wire", "Configuration", "TestSupport"]),
  tests("RunFolder", ["RunFolder", "Configuration"]),
  tests("RunStore", ["RunStore", "Wire"]),
  tests(
    "Daemon",
    [
      "Daemon", "Coordination", "HTTP", "RunStore", "CSQLite", "Worker", "Transport", "Wire", "Configuration",
      "TestSupport",
    ]),
  tests(
    "Worker",
    [
      "Training", "Kernels", "Exchange", "Trained", "Worker", "Checkpoint", "RunFolder", "Data", "HDF5", "CHDF5",
      "Wire", "Model", "Configuration", "TestSupport",
    ]),
  tests("Shell", ["Shell", "Wire", "Checksum", "Configuration", "TestSupport"]),
  .testTarget(
    name: "EndToEndTests", dependencies: ["HDF5", "Checkpoint", "Wire", "Configuration", "TestSupport"],
    path: "Tests/EndToEnd",
    swiftSettings: swiftSettings),
]

let package = Package(
  name: "ress",
  products: doublePrecision ? [] : [.executable(name: "ress", targets: ["ress"])],
  targets: doublePrecision ? numbers : numbers + system + [support])
