//go:build race

package hyperdht

// transferSize is that of long transfers, in bytes.
const transferSize = 32 << 20
