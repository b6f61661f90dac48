// Test builds only (-include): lets avx512.cpp and avxvnni.cpp run on machines without their instructions, through
// SIMDe.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

// What this SIMDe lacks.
inline simde__m512i emulated_cvtepu16_epi32(simde__m256i x) {
  alignas(32) uint16_t words[16];
  alignas(64) int32_t lanes[16];
  simde_mm256_store_si256(reinterpret_cast<simde__m256i*>(words), x);
  for (int i = 0; i < 16; ++i) lanes[i] = words[i];
  return simde_mm512_load_si512(lanes);
}
inline simde__m128i emulated_cvtepi32_epi8(simde__m512i x) {
  alignas(64) int32_t lanes[16];
  alignas(16) int8_t bytes[16];
  simde_mm512_store_si512(lanes, x);
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<int8_t>(lanes[i]);
  return simde_mm_load_si128(reinterpret_cast<simde__m128i*>(bytes));
}
inline simde__m256i emulated_cvtepi32_epi16(simde__m512i x) {
  alignas(64) int32_t lanes[16];
  alignas(32) int16_t words[16];
  simde_mm512_store_si512(lanes, x);
  for (int i = 0; i < 16; ++i) words[i] = static_cast<int16_t>(lanes[i]);
  return simde_mm256_load_si256(reinterpret_cast<simde__m256i*>(words));
}
inline simde__m512 emulated_cvtepi32_ps(simde__m512i x) {
  alignas(64) int32_t lanes[16];
  alignas(64) float values[16];
  simde_mm512_store_si512(lanes, x);
  for (int i = 0; i < 16; ++i) values[i] = static_cast<float>(lanes[i]);
  return simde_mm512_load_ps(values);
}
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_epi8
#undef _mm512_cvtepi32_epi16
#undef _mm256_dpbusd_avx_epi32
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepi32_epi8 emulated_cvtepi32_epi8
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
