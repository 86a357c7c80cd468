package udx

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/warren-dht/warren/internal/seq"
	"github.com/warren-dht/warren/internal/vectors"
)

// captures is testdata/udx.json; docs/spec/udx.md §9 describes it.
type captures struct {
	Scenarios []scenario
}

type scenario struct {
	Name     string
	LocalIDs map[string]uint32 `json:"local_ids"`
	Packets  []captured
	Cases    []inputCase
}

type captured struct {
	Millis  float64 `json:"t_ms"`
	Dir     string
	Dropped bool
	Hex     vectors.Hex
	Decoded decoded
}

type decoded struct {
	UDX        bool
	Magic      byte
	Version    byte
	Flags      uint8 `json:"flags_raw"`
	DataOffset uint8 `json:"data_offset"`
	StreamID   uint32
	Rwnd       uint32
	Seq, Ack   uint32
	SACKs      [][2]uint32
	PayloadLen *int `json:"payload_len"`
	UDPLen     int  `json:"udp_payload_len"`
}

func (d *decoded) UnmarshalJSON(b []byte) error {
	type plain decoded
	v := struct {
		*plain
		StreamID *uint32 `json:"stream_id"`
	}{plain: (*plain)(d), StreamID: &d.StreamID}
	return json.Unmarshal(b, &v)
}

type inputCase struct {
	Name     string
	Inputs   []vectors.Hex
	Replies  []captured
	Raw      []vectors.Hex `json:"socket_message_events"`
	Events   [][2]string   `json:"stream_events"`
	Finished struct {
		InFlight  int
		Destroyed bool
	} `json:"stream_state"`
}

func loadCaptures(t testing.TB) captures {
	var c captures
	vectors.Load(t, "udx.json", &c)
	if len(c.Scenarios) == 0 {
		t.Fatal("no scenarios")
	}
	return c
}

// every calls f for each packet in the captures.
func (c captures) every(f func(where string, p captured)) {
	for _, s := range c.Scenarios {
		for _, p := range s.Packets {
			f(s.Name, p)
		}
		for _, k := range s.Cases {
			for _, p := range k.Replies {
				f(s.Name+"/"+k.Name, p)
			}
		}
	}
}

// TestPacketVectors decodes every captured packet, compares, and encodes it again.
func TestPacketVectors(t *testing.T) {
	seen := 0
	loadCaptures(t).every(func(where string, c captured) {
		d := c.Decoded
		p, err := parsePacket(c.Hex)
		if !d.UDX {
			if err == nil {
				t.Errorf("%s: %x parsed", where, c.Hex)
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", where, err)
			return
		}
		seen++
		want := header{flags(d.Flags), d.DataOffset, d.StreamID, d.Rwnd, seq.Number(d.Seq), seq.Number(d.Ack)}
		if p.header != want {
			t.Errorf("%s: got %+v, want %+v", where, p.header, want)
		}
		var blocks [][2]uint32
		for i := range p.sackBlocks() {
			r := p.sackBlock(i)
			blocks = append(blocks, [2]uint32{uint32(r.Start), uint32(r.End)})
		}
		if !slices.Equal(blocks, d.SACKs) {
			t.Errorf("%s: blocks %v, want %v", where, blocks, d.SACKs)
		}
		if d.PayloadLen != nil && len(p.payload) != *d.PayloadLen {
			t.Errorf("%s: payload of %d, want %d", where, len(p.payload), *d.PayloadLen)
		}
		if got := p.Append(nil); !bytes.Equal(got, c.Hex) {
			t.Errorf("%s: encoded\n%x, want\n%x", where, got, c.Hex)
		}
	})
	if seen < 200 {
		t.Errorf("only %d packets", seen)
	}
}

func TestParsePacketRejects(t *testing.T) {
	h := header{flags: flagData}
	good := h.Append(nil)
	for _, c := range []struct {
		name string
		edit func([]byte) []byte
		want error
	}{
		{"19 bytes", func(b []byte) []byte { return b[:19] }, errNotPacket},
		{"empty", func(b []byte) []byte { return nil }, errNotPacket},
		{"magic", func(b []byte) []byte { b[0] = 0xfe; return b }, errNotPacket},
		{"version", func(b []byte) []byte { b[1] = 2; return b }, errNotPacket},
		{"padding", func(b []byte) []byte { b[offPad] = 1; return b }, errBadPadding},
		{"nothing", func(b []byte) []byte { return b }, nil},
	} {
		if _, err := parsePacket(c.edit(slices.Clone(good))); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func FuzzParsePacket(f *testing.F) {
	loadCaptures(f).every(func(_ string, p captured) { f.Add([]byte(p.Hex)) })
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePacket(b)
		if err != nil {
			return
		}
		if len(p.payload) > len(b)-headerSize || len(p.sacks) > len(b)-headerSize {
			t.Fatal("more bytes than came")
		}
		for i := range p.sackBlocks() {
			p.sackBlock(i)
		}
		// Padding and a block's remainder are not kept: the second round is the
		// fixed point.
		again := p.Append(nil)
		q, err := parsePacket(again)
		if err != nil {
			t.Fatalf("%x: %v", again, err)
		}
		if q.header != p.header || !bytes.Equal(q.sacks, p.sacks) || !bytes.Equal(q.payload, p.payload) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
