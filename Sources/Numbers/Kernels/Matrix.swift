// Matrices as views of memory that an arena or another buffer owns. Shapes are checked when a view is made and when
// views are combined, never inside a loop.

/// Rows of `columns` values, `stride` values apart. A view does not own its memory; its creator keeps the memory
/// alive.
package struct Matrix {
  package let pointer: RealPointer
  package let rows: Int
  package let columns: Int
  package let stride: Int

  package init(_ pointer: RealPointer, rows: Int, columns: Int, stride: Int? = nil) {
    precondition(rows >= 0 && columns >= 0 && (stride ?? columns) >= columns, "matrix \(rows) × \(columns)")
    self.pointer = pointer
    self.rows = rows
    self.columns = columns
    self.stride = stride ?? columns
  }

  /// The address of a row's first value.
  package func row(_ index: Int) -> RealPointer { pointer + index * stride }

  /// A range of rows, without a copy.
  package subscript(rows range: Range<Int>) -> Matrix {
    precondition(range.lowerBound >= 0 && range.upperBound <= rows, "rows \(range) of \(rows)")
    return Matrix(row(range.lowerBound), rows: range.count, columns: columns, stride: stride)
  }

  /// A range of columns, without a copy.
  package subscript(columns range: Range<Int>) -> Matrix {
    precondition(range.lowerBound >= 0 && range.upperBound <= columns, "columns \(range) of \(columns)")
    return Matrix(pointer + range.lowerBound, rows: rows, columns: range.count, stride: stride)
  }

  package var count: Int { rows * columns }

  /// Sets every value to zero. The rows must be adjacent.
  package func clear() {
    precondition(stride == columns, "clear of a strided matrix")
    pointer.update(repeating: 0, count: count)
  }

  /// Copies from a matrix of the same shape. The rows of both must be adjacent.
  package func copy(from other: Matrix) {
    precondition(rows == other.rows && columns == other.columns && stride == columns && other.stride == columns)
    pointer.update(from: other.pointer, count: count)
  }
}
