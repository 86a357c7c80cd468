package attacks

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

var full = flag.Bool("full", false, "run the attacks at full scale")

// programVar names the environment variable that holds the path of the warren
// binary. It is set only inside the namespace.
const programVar = "WARREN_ATTACKS_PROGRAM"

// unable is the reason why the attacks cannot run here; empty if they can.
var unable string

// TestMain runs the tests in a child process in a network namespace of its own.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(programVar) != "" {
		code := m.Run()
		if testing.Verbose() {
			printTable()
		}
		os.Exit(code)
	}
	code, err := runInNamespace()
	if err == nil {
		os.Exit(code)
	}
	unable = err.Error()
	os.Exit(m.Run())
}

// runInNamespace runs this test binary again, in a new network namespace, and
// returns its exit status. An error means that this machine cannot do it.
func runInNamespace() (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("not root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return 0, errors.New("ip is not installed")
	}
	probe := exec.Command("ip", "link", "set", "lo", "up")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if probe.Run() != nil {
		return 0, errors.New("network namespaces are not allowed here")
	}
	dir, err := os.MkdirTemp("", "warren-attacks")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "warren")
	// Built outside of the namespace: the build may need the network.
	if out, err := exec.Command("go", "build", "-o", program, "github.com/warren-dht/warren/cmd/warren").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1, nil
	}
	// The parent's death signal belongs to the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const setUp = `ip link set lo up && ip link set lo mtu 1500 &&
		for n in 5 6 7 8 9 10 11 12; do ip route add local $n.0.0.0/8 dev lo || exit; done && exec "$0" "$@"`
	cmd := exec.Command("sh", append([]string{"-c", setUp}, os.Args...)...)
	cmd.Env = append(os.Environ(), programVar+"="+program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	return 0, err
}

// need skips a test that cannot run here; with WARREN_TEST_ALL=1 it fails.
func need(t *testing.T) {
	t.Helper()
	if unable != "" {
		if os.Getenv("WARREN_TEST_ALL") == "1" {
			t.Fatal(unable)
		}
		t.Skip(unable)
	}
	if testing.Short() {
		t.Skip("it takes seconds")
	}
}

// A row is a line of the table of results.
type row struct {
	attack, figure, bound string
	held                  bool
}

var table struct {
	sync.Mutex
	rows []row
}

// result records what an attack achieved. The test fails unless the bound held.
func result(t *testing.T, held bool, attack, bound, figure string, args ...any) {
	t.Helper()
	r := row{attack, fmt.Sprintf(figure, args...), bound, held}
	table.Lock()
	table.rows = append(table.rows, r)
	table.Unlock()
	if held {
		t.Logf("%s: %s (bound: %s)", r.attack, r.figure, r.bound)
	} else {
		t.Errorf("%s: %s, want %s", r.attack, r.figure, r.bound)
	}
}

func printTable() {
	table.Lock()
	defer table.Unlock()
	if len(table.rows) == 0 {
		return
	}
	fmt.Println("| attack | figure | bound | held |\n| --- | --- | --- | --- |")
	for _, r := range table.rows {
		held := "yes"
		if !r.held {
			held = "NO"
		}
		fmt.Printf("| %s | %s | %s | %s |\n", r.attack, r.figure, r.bound, held)
	}
}
