package mainline

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails if a closed node leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
