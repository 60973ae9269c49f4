// Numbers and tables as people read them.

import Configuration
import Shell
import Testing

@Suite struct `Formatting of numbers` {
  @Test(arguments: [
    (2.225, 2, "2.23"), (2.0, 4, "2.0000"), (-0.04, 1, "0.0"), (-1.25, 2, "-1.25"), (0.005, 3, "0.005"),
    (9.999, 2, "10.00"),
    (12, 0, "12"), (.nan, 2, "nan"), (.infinity, 2, "inf"), (1e300, 2, "1e+300"),
  ])
  func `fixed digits round and keep zeros`(value: Double, digits: Int, text: String) {
    #expect(Format.fixed(value, digits) == text)
  }

  @Test(arguments: [
    (0.0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (8049, "2:14:09"), (.infinity, "?"), (-3, "0 s"),
  ])
  func `durations`(seconds: Double, text: String) {
    #expect(Format.duration(seconds: seconds) == text)
  }

  @Test func `sizes and counts`() {
    #expect(Format.grouped(1_234_567) == "1,234,567")
    #expect(Format.grouped(-999) == "-999")
    #expect(Format.grouped(1000) == "1,000")
    #expect(Format.compact(950) == "950")
    #expect(Format.compact(11_240) == "11.2k")
    #expect(Format.compact(4_560_000) == "4.56M")
    #expect(Format.bytes(512) == "512 B")
    #expect(Format.bytes(3_355_443) == "3.2 MiB")
    #expect(Format.bytes(50 << 30) == "50 GiB")
  }

  @Test func `a count agrees with its noun`() {
    #expect(Format.count(1, "document") == "1 document")
    #expect(Format.count(0, "document") == "0 documents")
    #expect(Format.count(12_345, "loss", "losses") == "12,345 losses")
    #expect(SpokenNumbers.count(1, "shard is", "shards are") == "1 shard is")
    #expect(SpokenNumbers.count(4096, "worker") == "4096 workers")
    #expect(SpokenNumbers.names(["a"], of: 2) == "a and 1 other")
    #expect(SpokenNumbers.names(["a"], of: 3) == "a and 2 others")
  }

  @Test(arguments: [([0, 1, 2, 3], "0–3"), ([6, 0, 1], "0–1, 6"), ([5], "5"), ([], "none"), ([1, 1, 2], "1–2")])
  func `neighbours are joined to ranges`(numbers: [Int], text: String) {
    #expect(Format.ranges(numbers) == text)
  }

  @Test func `a table aligns its columns and has no spaces at its ends`() {
    var table = TextTable([("name", .left), ("bytes", .right), ("note", .left)])
    table.add(["a", "12345678", ""])
    table.add(["longer", "1", "x"])
    #expect(table.text == "name       bytes  note\na       12345678\nlonger         1  x")
  }

  @Test func `lengths are counted by powers of two, and whatever is there shows`() {
    #expect(LengthHistogram([]).text == "  none")
    #expect(
      LengthHistogram([0, 1, 5] + Array(repeating: 20, count: 1000)).text == """
              1      2  █
            2–3      0
            4–7      1  █
           8–15      0
          16–31  1,000  \(String(repeating: "█", count: 40))
        """)
  }
}
