package compact

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/warren-dht/warren/internal/vectors"
)

type vectorFile struct {
	Uint struct {
		Encode []struct {
			Value uint64
			Hex   vectors.Hex
		}
		Decode []struct {
			Hex      vectors.Hex
			Value    uint64
			Consumed int
			Error    string
		}
	}
	Addresses []struct {
		Host string
		Port uint16
		Hex  vectors.Hex
	} `json:"ipv4_address"`
}

func load(t testing.TB) vectorFile {
	var f vectorFile
	vectors.Load(t, "dht-rpc.json", &f)
	if len(f.Uint.Encode) == 0 || len(f.Uint.Decode) == 0 || len(f.Addresses) == 0 {
		t.Fatal("the vector file lacks a list")
	}
	return f
}

func TestVectors(t *testing.T) {
	f := load(t)
	for _, v := range f.Uint.Encode {
		if got := AppendUint(nil, v.Value); !bytes.Equal(got, v.Hex) {
			t.Errorf("AppendUint(%d) = %x, want %x", v.Value, got, v.Hex)
		}
		if got := SizeUint(v.Value); got != len(v.Hex) {
			t.Errorf("SizeUint(%d) = %d, want %d", v.Value, got, len(v.Hex))
		}
	}
	for _, v := range f.Uint.Decode {
		r := NewReader(v.Hex)
		got := r.Uint()
		want := map[string]error{"": nil, "short": ErrShort, "range": ErrRange}[v.Error]
		if r.Err() != want {
			t.Errorf("Uint(%x): error %v, want %v", v.Hex, r.Err(), want)
		}
		if want == nil && (got != v.Value || len(v.Hex)-r.Len() != v.Consumed) {
			t.Errorf("Uint(%x) = %d with %d left, want %d", v.Hex, got, r.Len(), v.Value)
		}
	}
	for _, v := range f.Addresses {
		a := netip.AddrPortFrom(netip.MustParseAddr(v.Host), v.Port)
		if got := AppendAddr(nil, a); !bytes.Equal(got, v.Hex) {
			t.Errorf("AppendAddr(%v) = %x, want %x", a, got, v.Hex)
		}
		r := NewReader(v.Hex)
		if got := r.Addr(); got != a || r.Err() != nil {
			t.Errorf("Addr(%x) = %v, %v; want %v", v.Hex, got, r.Err(), a)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	four := []netip.AddrPort{netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("255.0.0.1:65535")}
	six := []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:443")}
	b := AppendBool(nil, true)
	b = AppendUint16(b, 0x1234)
	b = AppendUint32(b, 0x12345678)
	b = AppendUint64(b, MaxUint)
	b = AppendBuffer(b, []byte{})
	b = AppendBuffer(b, bytes.Repeat([]byte{7}, 300))
	b = AppendString(b, "grüß")
	b = AppendAddrs(b, four)
	b = AppendAddrs6(b, six)
	b = append(b, 9, 9)

	r := NewReader(b)
	if v := r.Bool(); !v {
		t.Error("Bool = false")
	}
	if v := r.Uint16(); v != 0x1234 {
		t.Errorf("Uint16 = %x", v)
	}
	if v := r.Uint32(); v != 0x12345678 {
		t.Errorf("Uint32 = %x", v)
	}
	if v := r.Uint64(); v != MaxUint {
		t.Errorf("Uint64 = %x", v)
	}
	if v := r.Buffer(); v == nil || len(v) != 0 {
		t.Errorf("empty Buffer = %#v, want present and empty", v)
	}
	if v := r.Buffer(); len(v) != 300 || SizeBuffer(300) != 303 {
		t.Errorf("Buffer has %d bytes, SizeBuffer = %d", len(v), SizeBuffer(300))
	}
	if v := r.UTF8(); v != "grüß" {
		t.Errorf("UTF8 = %q", v)
	}
	as := r.Addrs()
	if got := as.Append(nil); as.Len() != 2 || got[0] != four[0] || got[1] != four[1] {
		t.Errorf("Addrs = %v", got)
	}
	if again := AddrsOf(append(as.Bytes(), 1, 2)); again.Len() != 2 || again.At(1) != four[1] {
		t.Errorf("AddrsOf = %v", again.Append(nil))
	}
	if got := r.AppendAddrs6(nil); len(got) != 1 || got[0] != six[0] {
		t.Errorf("AppendAddrs6 = %v", got)
	}
	if r.Len() != 2 || !bytes.Equal(r.Rest(), []byte{9, 9}) || !bytes.Equal(r.Raw(), []byte{9, 9}) || r.Len() != 0 || r.Err() != nil {
		t.Errorf("rest: %d left, %v", r.Len(), r.Err())
	}
}

// A length or count that the input cannot hold fails before anything is
// allocated by it (docs/spec/dht-rpc.md §1.2).
func TestHostileLengths(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []byte
		read func(*Reader)
		want error
	}{
		{"buffer beyond the end", []byte{3, 1, 2}, func(r *Reader) { r.Buffer() }, ErrShort},
		{"buffer of 2^53-1", AppendUint(nil, MaxUint), func(r *Reader) { r.Buffer() }, ErrShort},
		{"count beyond the end", append(AppendUint(nil, 2), make([]byte, 11)...), func(r *Reader) { r.Addrs() }, ErrShort},
		{"count above 2^20", AppendUint(nil, MaxCount+1), func(r *Reader) { r.Addrs() }, ErrRange},
		{"count of 2^20", AppendUint(nil, MaxCount), func(r *Reader) { r.AppendAddrs6(nil) }, ErrShort},
		{"fixed of a negative length", []byte{1}, func(r *Reader) { r.Fixed(-1) }, ErrShort},
		{"fixed32", make([]byte, 31), func(r *Reader) { r.Fixed32() }, ErrShort},
		{"fixed64", make([]byte, 63), func(r *Reader) { r.Fixed64() }, ErrShort},
		{"address", make([]byte, 5), func(r *Reader) { r.Addr() }, ErrShort},
		{"address6", make([]byte, 17), func(r *Reader) { r.Addr6() }, ErrShort},
		{"nothing", nil, func(r *Reader) { r.Bool() }, ErrShort},
	} {
		r := NewReader(tc.in)
		tc.read(&r)
		if r.Err() != tc.want || r.Len() != 0 {
			t.Errorf("%s: %v with %d left, want %v and nothing", tc.name, r.Err(), r.Len(), tc.want)
		}
		r.Fail(errors.New("later"))
		if r.Err() != tc.want {
			t.Errorf("%s: the first error did not stick", tc.name)
		}
		if r.Uint() != 0 || r.Uint16() != 0 || r.Uint32() != 0 || r.Uint64() != 0 || r.Fixed32() != nil || r.Buffer() != nil || r.Addr().IsValid() {
			t.Errorf("%s: a failed Reader returned a value", tc.name)
		}
	}
}

func TestAppendRefusesLargeIntegers(t *testing.T) {
	for name, f := range map[string]func(){
		"uint":   func() { AppendUint(nil, MaxUint+1) },
		"uint64": func() { AppendUint64(nil, MaxUint+1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s above 2^53-1 was written", name)
				}
			}()
			f()
		}()
	}
}

func TestNoAllocations(t *testing.T) {
	buf := make([]byte, 0, 512)
	a := netip.MustParseAddrPort("1.2.3.4:5")
	if n := testing.AllocsPerRun(100, func() {
		b := AppendUint(buf, 70000)
		b = AppendBuffer(b, buf[:20])
		b = AppendAddr(append(b, 1), a)
		r := NewReader(b)
		r.Uint()
		r.Buffer()
		if as := r.Addrs(); as.Len() != 1 || as.At(0) != a {
			t.Fatal("wrong address")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzReader reads arbitrary input as every kind of value and writes back what
// it got: the second reading equals the first.
func FuzzReader(f *testing.F) {
	for _, v := range load(f).Uint.Decode {
		f.Add([]byte(v.Hex))
	}
	f.Add(AppendAddrs(AppendBuffer(nil, []byte("value")), []netip.AddrPort{netip.MustParseAddrPort("1.2.3.4:5")}))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(in)
		n, v, as := r.Uint(), r.Buffer(), r.Addrs()
		six := r.AppendAddrs6(nil)
		if r.Err() != nil {
			return
		}
		b := AppendUint(nil, n)
		b = AppendBuffer(b, v)
		b = AppendAddrs(b, as.Append(nil))
		b = AppendAddrs6(b, six)
		if len(b)+r.Len() > len(in) {
			t.Fatalf("%d bytes written for %d read", len(b), len(in)-r.Len())
		}
		q := NewReader(b)
		if q.Uint() != n || !bytes.Equal(q.Buffer(), v) || !bytes.Equal(q.Addrs().b, as.b) || len(q.AppendAddrs6(nil)) != len(six) || q.Err() != nil || q.Len() != 0 {
			t.Fatalf("%x became %x", in, b)
		}
	})
}
