package hyperdht

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/nat"
)

// This is how a puncher learns what the NAT before its sockets does (spec §7.2,
// §7.3).

// sample asks four nodes at which address they see the socket (spec §7.2), and
// two more each time that sampleStagger passes without a result, eight in all.
func (p *puncher) sample(s *punchSocket, class *nat.Classifier) {
	nodes := p.node.rpc.Nodes()
	if len(nodes) >= 8 {
		nodes = append(nodes[5:len(nodes):len(nodes)], nodes[:5]...)
	}
	nodes = nodes[:min(maxSamples, len(nodes))]
	ended := make(chan struct{}, len(nodes))
	pending := 0
	ask := func(n int) {
		for _, at := range nodes[:min(n, len(nodes))] {
			pending++
			p.node.wg.Go(func() {
				r, err := p.node.rpc.Ping(p.ctx, at.Addr, dhtrpc.WithConn(s.Conn), dhtrpc.WithRetries(1), dhtrpc.WithBackoff(sampleTime/3, sampleTime))
				if err == nil {
					p.sampled(class, r.To, r.From)
				}
				ended <- struct{}{}
			})
		}
		nodes = nodes[min(n, len(nodes)):]
	}
	ask(4)
	more := time.NewTicker(sampleStagger)
	defer more.Stop()
	for pending > 0 {
		select {
		case <-ended:
			pending--
		case <-more.C:
			ask(2)
		}
		p.mu.Lock()
		enough := class.Len() >= 4 || class.Done()
		p.mu.Unlock()
		if enough {
			return
		}
	}
}

// sampled notes that from saw the main socket at to.
func (p *puncher) sampled(class *nat.Classifier, to, from netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	class.Add(to, from)
	p.stats.Samples = class.Len()
	if class == p.class && class.Done() {
		closeOnce(p.analysed)
	}
}

// observe is sampled for messages that arrive on conn in the course of the
// punch, if it is the main socket.
func (p *puncher) observe(conn interface{ LocalAddr() netip.AddrPort }, to, from netip.AddrPort) {
	p.mu.Lock()
	main, class := p.main, p.class
	p.mu.Unlock()
	if main != nil && (conn == main.Conn || conn == main) {
		p.sampled(class, to, from)
	}
}

func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// analyse waits until the socket's NAT is classified as well as it can be.
func (p *puncher) analyse() error {
	p.mu.Lock()
	ch := p.analysed
	p.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// local is our class and addresses as known now.
func (p *puncher) local() (nat.Class, []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.class.Class(), slices.Clone(p.class.Addrs())
}

// freeze keeps our class and addresses as they were told to the other side.
func (p *puncher) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.class.Freeze()
}

// reopen tries other sockets while the class is unstable, once (spec §7.3), and
// reports whether it ended consistent. Who comes later waits for the outcome.
func (p *puncher) reopen() bool {
	p.mu.Lock()
	over, first := p.reopened, p.reopened == nil
	if first {
		over = make(chan struct{})
		p.reopened = over
	}
	p.mu.Unlock()
	if first {
		for range maxReopens {
			own, _ := p.local()
			if !unstable(own, p.view().class) || p.open() != nil || p.analyse() != nil {
				break
			}
		}
		close(over)
	} else {
		select {
		case <-over:
		case <-p.ctx.Done():
		}
	}
	own, _ := p.local()
	return own == nat.Consistent || own == nat.Open
}
