// Divides ordered items evenly among workers: units, experts, sequences of an evaluation.

/// `count` items in contiguous shares, one for each worker, whose sizes differ by at most one.
package func evenShares(of count: Int, among workers: Int) -> [Range<Int>] {
  (0..<workers).map { count * $0 / workers..<count * ($0 + 1) / workers }
}
