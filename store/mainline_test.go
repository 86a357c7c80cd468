package store_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/warren-dht/warren/mainline"
	"github.com/warren-dht/warren/store"
)

// What a Mainline node stored for others is there again after a restart.
func TestMainlineNodeComesBack(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	listen := func(boot []string, db *store.DB) *mainline.Node {
		t.Helper()
		cfg := mainline.Config{
			Addrs:     []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
			Bootstrap: boot, NoBootstrap: boot == nil,
		}
		if db != nil {
			cfg.Store = db
		}
		n, err := mainline.Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close() })
		if err := n.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		return n
	}
	open := func() *store.DB {
		t.Helper()
		db, err := store.Open(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}

	db := open()
	keeper := listen(nil, db)
	client := listen([]string{keeper.Addr().String()}, nil)
	item := mainline.Item{Value: mainline.StringValue("still here")}
	stored, err := client.Put(ctx, item, mainline.PutOptions{NoLocal: true})
	if err != nil || stored.N() == 0 {
		t.Fatalf("%+v, %v", stored, err)
	}
	topic := mainline.FromHash([20]byte{7})
	if _, err := client.Announce(ctx, topic, mainline.AnnounceOptions{Port: 4321}); err != nil {
		t.Fatal(err)
	}
	client.Close()
	keeper.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = open()
	defer db.Close()
	keeper = listen(nil, db)
	defer keeper.Close()
	client = listen([]string{keeper.Addr().String()}, nil)
	found, err := client.Get(ctx, stored.Target)
	if err != nil || string(found.Value) != string(item.Value) {
		t.Errorf("%+v, %v", found, err)
	}
	lookup := client.Lookup(topic)
	ports := map[uint16]bool{}
	for p := range lookup.Peers(ctx) {
		ports[p.Addr.Port()] = true
	}
	if !ports[4321] {
		t.Errorf("peers at ports %v", ports)
	}
}
