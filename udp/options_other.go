//go:build !linux && !darwin && !freebsd && !windows

package udp

// setOptions sets the buffers.
func (s *socket) setOptions() error {
	s.setBuffers()
	return nil
}
