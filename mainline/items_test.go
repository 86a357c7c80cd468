package mainline

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/warren-dht/warren/bencode"
)

func TestGetNewest(t *testing.T) {
	play(t, nil, func(s *stage) {
		target := MutableTarget(seed.Public().(ed25519.PublicKey), nil)
		old, fresh := Sign(seed, nil, 4, StringValue("old")), Sign(seed, nil, 5, StringValue("new"))
		forged := fresh
		forged.Seq = 9
		replies := []string{"", itemReply(&old), itemReply(&fresh), itemReply(&fresh), itemReply(&forged), "1:v5:wrong", "1:k3:abc3:seqi1e1:v1:x"}
		for i := range replies {
			defer s.answering(byte('A'+i), replies[i])()
		}
		f, err := s.node.Get(s.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := f.Bytes(); string(b) != "new" || f.Seq != 5 || f.Agree != 2 || f.Older != 1 || f.Invalid != 3 || f.Replied != len(replies) {
			t.Errorf("%q, %+v", b, f)
		}
		if _, err := s.node.Get(s.Context(), target, GetOptions{MinSeq: 6}); !errors.Is(err, ErrNotFound) {
			t.Errorf("with a higher seq wanted: %v", err)
		}
		if f, err := s.node.Get(s.Context(), target, GetOptions{First: true}); err != nil || f.Seq < 4 || f.Replied == len(replies) {
			t.Errorf("the first: %+v, %v", f, err)
		}
		if _, err := s.node.Get(s.Context(), hashOf("nothing")); !errors.Is(err, ErrNotFound) {
			t.Errorf("of nothing: %v", err)
		}
		all := func(_, _, _ []byte) bool { return true }
		if f, err := s.node.Get(s.Context(), target, GetOptions{Verify: all}); err != nil || f.Seq != forged.Seq {
			t.Errorf("with a function that finds every signature good: %+v, %v", f, err)
		}
	})
}

// A value that we would not store, since it is too long, can still be read.
func TestGetLongValue(t *testing.T) {
	for name, v := range map[string]bencode.Raw{
		"string": StringValue(strings.Repeat("v", 1000)), // bittorrent-dht's limit
		"list":   bencode.Raw("l" + string(StringValue(strings.Repeat("v", 1100))) + "e"),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(s *stage) {
				long := Sign(seed, nil, 1, v)
				defer s.answering('A', itemReply(&long))()
				f, err := s.node.Get(s.Context(), MutableTarget(long.Key, nil))
				if err != nil || string(f.Value) != string(v) {
					t.Errorf("%+v, %v", f, err)
				}
				if _, err := s.node.Put(s.Context(), long); err == nil {
					t.Error("put")
				}
			})
		})
	}
}

// answering has an actor in the table that answers every query with the same,
// until stop is called.
func (s *stage) answering(id byte, reply string) (stop func()) {
	a := s.actor()
	a.enter(id)
	go func() {
		for d := range a.got {
			var m message
			if m.parse(d.Payload) == nil && m.kind == 'q' {
				b := append([]byte("d1:rd"+idOf(id)+reply+"e1:t2:"), m.t...)
				a.send(append(b, "1:y1:re"...))
			}
		}
	}()
	return func() { close(a.got) }
}

func itemReply(i *Item) string {
	return fmt.Sprintf("1:k32:%s3:seqi%de3:sig64:%s1:v%s", i.Key, i.Seq, i.Signature, i.Value)
}

// TestShadowedItem: a node that lets an unsigned value stand before the item is
// asked again for what is newer than seq 0.
func TestShadowedItem(t *testing.T) {
	play(t, nil, func(s *stage) {
		item := Sign(seed, nil, 5, StringValue("signed"))
		a := s.actor()
		a.enter('A')
		type result struct {
			f   *Found
			err error
		}
		done := make(chan result)
		go func() {
			f, err := s.node.Get(s.Context(), MutableTarget(item.Key, nil))
			done <- result{f, err}
		}()
		a.answer("get", func(m *message) string {
			if m.body.any(hasSeq) {
				t.Error("a get asks for a seq at once")
			}
			return idOf('A') + "1:v7:garbage"
		})
		a.answer("get", func(m *message) string {
			if !m.body.any(hasSeq) || m.body.seq != 0 {
				t.Error("the second get asks for no seq")
			}
			return idOf('A') + itemReply(&item)
		})
		r := <-done
		if r.err != nil || r.f.Seq != 5 {
			t.Errorf("%+v, %v", r.f, r.err)
		}
	})
}

// TestPutAgain: a node that refuses the very item that it holds counts as one
// that stores it.
func TestPutAgain(t *testing.T) {
	play(t, nil, func(s *stage) {
		item := Sign(seed, []byte("salt"), 5, StringValue("x"))
		a := s.actor()
		a.enter('A')
		put := func(held string, cas *int64, put func(*message) string) (Stored, error) {
			s.node.forgetTokens(item.target(hashSHA1))
			type result struct {
				st  Stored
				err error
			}
			done := make(chan result)
			go func() {
				st, err := s.node.Put(s.Context(), item, PutOptions{CAS: cas})
				done <- result{st, err}
			}()
			a.answer("get", func(*message) string { return idOf('A') + held })
			for {
				var m message
				d := a.receive()
				if d == nil {
					t.Fatal("no put came")
				}
				if m.parse(d) == nil && string(m.method) == "put" {
					b := append([]byte("d"+put(&m)+"1:t2:"), m.t...)
					a.send(append(b, "1:y1:ee"...))
					break
				}
			}
			r := <-done
			return r.st, r.err
		}
		var code *Error
		refuse := func(*message) string { return "1:eli302e3:oldee"[:len("1:eli302e3:olde")] }
		st, err := put(strings.Replace(itemReply(&item), "1:v", "5:token2:tk1:v", 1), nil, refuse)
		if err != nil || st.N() != 1 || len(st.Refused) != 0 {
			t.Errorf("the same item: %+v, %v", st, err)
		}
		newer := Sign(seed, []byte("salt"), 6, StringValue("y"))
		st, err = put(strings.Replace(itemReply(&newer), "1:v", "5:token2:tk1:v", 1), nil, refuse)
		if !errors.As(err, &code) || code.Code != CodeSeqTooLow || st.N() != 0 || len(st.Refused) != 1 {
			t.Errorf("an older item: %+v, %v", st, err)
		}
		// cas goes only to nodes that hold the item.
		five := int64(5)
		put("5:token2:tk", &five, func(m *message) string {
			if m.body.any(hasCAS) {
				t.Error("cas went to a node without the item")
			}
			return "1:eli301e3:case"
		})
		st, err = put(strings.Replace(itemReply(&newer), "1:v", "5:token2:tk1:v", 1), &five, func(m *message) string {
			if !m.body.any(hasCAS) || m.body.cas != 5 || string(m.body.salt) != "salt" {
				t.Errorf("put: %+v", m.body)
			}
			return "1:eli301e3:case"
		})
		if !errors.As(err, &code) || code.Code != CodeCASMismatch {
			t.Errorf("cas: %+v, %v", st, err)
		}
	})
}

func TestPutRefusesBadItems(t *testing.T) {
	n, _ := direct(t, nil)
	for _, i := range []Item{
		{},
		{Value: bencode.Raw("x")},
		{Value: bencode.Raw("i01e")},
		{Value: bencode.Raw("d1:bi1e1:ai1ee")},
		{Value: StringValue(strings.Repeat("x", 997))},
		{Value: StringValue("x"), Salt: []byte("s")},
		{Value: StringValue("x"), Seq: 1},
		{Value: StringValue("x"), Key: make([]byte, 31), Signature: make([]byte, 64)},
		{Value: StringValue("x"), Key: make([]byte, 32)},
		{Value: StringValue("x"), Key: make([]byte, 32), Signature: make([]byte, 64), Seq: -1},
		{Value: StringValue("x"), Key: make([]byte, 32), Signature: make([]byte, 64), Salt: make([]byte, 65)},
	} {
		if _, err := n.Put(t.Context(), i); err == nil || errors.Is(err, ErrNoNodes) {
			t.Errorf("%+v: %v", i, err)
		}
	}
	// Alone, a node keeps its own copy and says that nobody else does.
	item := Item{Value: StringValue("mine")}
	st, err := n.Put(t.Context(), item)
	if !errors.Is(err, ErrNoNodes) {
		t.Errorf("alone: %v", err)
	}
	if f, err := n.Get(t.Context(), st.Target); err != nil || string(f.Value) != "4:mine" {
		t.Errorf("alone: %v, %v", f, err)
	}
	if _, err := n.Get(t.Context(), st.Target, GetOptions{NoCache: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("without cache: %v", err)
	}
}
