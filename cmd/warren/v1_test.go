package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

func TestV1(t *testing.T) {
	t.Parallel()
	loop := "--host=127.0.0.1"
	boot := start(t, "v1", "node", loop, "--bootstrap", "none", "--ephemeral")
	var b nodeEvent
	boot.event("listening", &b)
	boot.event("ready", nil)
	bootstrap := "--bootstrap=" + b.addr()
	var nodes []nodeEvent
	for range 4 {
		var e nodeEvent
		d := start(t, "v1", "node", loop, bootstrap, "--values")
		d.event("listening", nil)
		d.event("ready", &e)
		nodes = append(nodes, e)
	}

	type reply struct {
		From struct {
			Host string
			Port int
		}
		ID       string
		Value    *string
		ValueHex *string
	}
	text := "kept by four nodes"
	target := fmt.Sprintf("--target=%x", sha256.Sum256([]byte(text)))
	stored := lines[reply](t, run(t, "v1", "update", "--json", loop, bootstrap, "--command=values", target, "--value", text))
	if len(stored) != 4 {
		t.Fatalf("stored at %+v", stored)
	}
	found := lines[reply](t, run(t, "v1", "query", "--json", loop, bootstrap, "--command=values", target))
	if len(found) != 4 || len(found[0].ID) != 64 {
		t.Fatalf("found at %+v", found)
	}
	for _, r := range found {
		if r.Value == nil || *r.Value != text {
			t.Errorf("%+v", r)
		}
	}
	binary := "fffe00"
	target = "--target=" + fmt.Sprintf("%x", sha256.Sum256([]byte("\xff\xfe\x00")))
	run(t, "v1", "closest", loop, bootstrap, "--command=values", target, "--value-hex", binary).ok(t)
	for _, r := range lines[reply](t, run(t, "v1", "query", "--json", loop, bootstrap, "--command=values", target)) {
		if r.Value != nil || r.ValueHex == nil || *r.ValueHex != binary {
			t.Errorf("%+v", r)
		}
	}
	if o := run(t, "v1", "query", loop, bootstrap, "--command=values", target).ok(t); strings.Count(o.stdout, "0x"+binary) != 4 {
		t.Errorf("for people:\n%s", o.stdout)
	}

	var pong struct {
		From, To struct {
			Host string
			Port int
		}
		RTTMs float64
		ID    string
	}
	run(t, "v1", "ping", "--json", loop, nodes[0].addr()).decode(t, &pong)
	if pong.ID != nodes[0].ID || pong.From.Port != nodes[0].Port || pong.RTTMs <= 0 {
		t.Errorf("%+v", pong)
	}
	run(t, "v1", "holepunch", "--json", loop, bootstrap, nodes[1].addr(), nodes[0].addr()).decode(t, &pong)
	if pong.ID != nodes[1].ID || pong.From.Port != nodes[1].Port {
		t.Errorf("%+v", pong)
	}
}
