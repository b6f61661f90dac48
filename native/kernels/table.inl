// Ties the includer's functions into its table. Needs matmul_q8, matmul_q4 and everything of the other .inl files.

void matmul(const Matrix& matrix, const void* rows, int64_t m, int64_t begin, int64_t end, float* y, int64_t y_stride,
            bool accumulate) {
  if (m <= 0 || begin >= end) return;
  switch (matrix.type) {
    case WeightType::f32: return matmul_float<F32Weights>(matrix, rows, m, begin, end, y, y_stride, accumulate);
    case WeightType::bf16: return matmul_float<Bf16Weights>(matrix, rows, m, begin, end, y, y_stride, accumulate);
    case WeightType::q8: return matmul_q8(matrix, rows, m, begin, end, y, y_stride, accumulate);
    case WeightType::q4: return matmul_q4(matrix, rows, m, begin, end, y, y_stride, accumulate);
  }
}

constexpr KernelTable make_table(const char* name) {
  return KernelTable{name,        packed_bytes, matrix_view, pack_rows,       unpack_row,
                     row_bytes,   prepare_row,  matmul,      rmsnorm,         layernorm,
                     rope,        activate,     add_rows,    softcap,         rmsnorm_grad,
                     swiglu_grad, kv_bytes,     kv_store,    kv_copy,         attention_scratch_floats,
                     attention,   block_max,    keep_likely, select_at_least, sum_exp,
                     exp_rows};
}
