package protomux

import "github.com/warren-dht/warren/compact"

// Types of control messages, those of channel 0. Others are ignored.
const (
	controlBatch  = 0
	controlOpen   = 1
	controlReject = 2
	controlClose  = 3
)

// An openMessage is the payload of a control message open. Its slices are
// borrowed.
type openMessage struct {
	channel   uint64 // the sender's number, at least 1
	protocol  []byte
	id        []byte // empty: none
	handshake []byte
}

func parseOpen(b []byte) (openMessage, error) {
	r := compact.NewReader(b)
	o := openMessage{channel: r.Uint(), protocol: r.Buffer(), id: r.Buffer(), handshake: r.Raw()}
	return o, r.Err()
}

func (o openMessage) Append(b []byte) []byte {
	b = compact.AppendUint(b, o.channel)
	b = compact.AppendBuffer(b, o.protocol)
	b = compact.AppendBuffer(b, o.id)
	return append(b, o.handshake...)
}

// openSize is the size of an open, whatever its number.
func openSize(o openMessage) int {
	return compact.SizeUint(compact.MaxUint) + compact.SizeBuffer(len(o.protocol)) + compact.SizeBuffer(len(o.id)) + len(o.handshake)
}

// parseChannel reads the payload of reject and close. What follows is ignored.
func parseChannel(b []byte) (uint64, error) {
	r := compact.NewReader(b)
	return r.Uint(), r.Err()
}

// A batchReader takes a batch apart.
type batchReader struct {
	r       compact.Reader
	channel uint64
}

func parseBatch(b []byte) (batchReader, error) {
	r := compact.NewReader(b)
	channel := r.Uint()
	return batchReader{r, channel}, r.Err()
}

// next returns the next item, a message without its channel; ok is false at the
// end. A length that runs past the end is cut there, as the reference does.
func (b *batchReader) next() (item []byte, ok bool, err error) {
	for b.r.Len() > 0 {
		n := b.r.Uint()
		if b.r.Err() == nil && n > 0 {
			return b.r.Fixed(int(min(n, uint64(b.r.Len())))), true, nil
		}
		b.channel = b.r.Uint()
	}
	return nil, false, b.r.Err()
}
