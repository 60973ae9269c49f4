// Who gets what, where things in a row are shared among workers: units, experts, sequences of an evaluation.

/// `count` things in contiguous shares, one a worker, as even as whole things allow.
package func evenShares(of count: Int, among workers: Int) -> [Range<Int>] {
  (0..<workers).map { count * $0 / workers..<count * ($0 + 1) / workers }
}
