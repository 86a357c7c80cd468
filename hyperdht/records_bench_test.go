package hyperdht_test

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/warren-dht/warren/hyperdht"
	"github.com/warren-dht/warren/hyperdhttest"
)

// The operations of workload W3: 50 persistent nodes and one ephemeral client,
// 100-byte values, a fresh key each time.
func BenchmarkRecords(b *testing.B) {
	net := hyperdhttest.Start(b, 50)
	node := net.Join(hyperdht.Config{})
	ctx := context.Background()
	value := func(i int) []byte {
		v := make([]byte, 100)
		binary.LittleEndian.PutUint64(v, uint64(i))
		return v
	}
	key := func(i int) hyperdht.KeyPair {
		var seed [32]byte
		binary.LittleEndian.PutUint64(seed[:], uint64(i))
		return hyperdht.KeyPairFromSeed(seed)
	}
	puts, mutables, topics := 0, 0, 0
	b.Run("ImmutablePut", func(b *testing.B) {
		for b.Loop() {
			if _, err := node.ImmutablePut(ctx, value(puts), hyperdht.PutOptions{}); err != nil {
				b.Fatal(err)
			}
			puts++
		}
	})
	b.Run("ImmutableGet", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := node.ImmutableGet(ctx, hyperdht.Hash(value(i%puts))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("MutablePut", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := node.MutablePut(ctx, hyperdht.SignerOf(key(mutables)), 1, value(0), hyperdht.PutOptions{}); err != nil {
				b.Fatal(err)
			}
			mutables++
		}
	})
	b.Run("MutableGet", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := node.MutableGet(ctx, key(i%mutables).Public, hyperdht.GetOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Announce", func(b *testing.B) {
		for b.Loop() {
			if _, err := node.Announce(ctx, hyperdht.Hash(value(topics)), hyperdht.SignerOf(key(topics)), hyperdht.AnnounceOptions{}); err != nil {
				b.Fatal(err)
			}
			topics++
		}
	})
	b.Run("Lookup", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			for _, err := range node.Lookup(ctx, hyperdht.Hash(value(i%topics))) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
