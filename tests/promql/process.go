package promqltest

import (
	"io"
	"os/exec"
	"syscall"
	"time"
)

// patience is how long anything may take that takes no time.
const patience = 30 * time.Second

// start starts a program that ends with this one, and gives its log.
func start(process *exec.Cmd) (io.Reader, error) {
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := process.StderrPipe()
	if err != nil {
		return nil, err
	}
	return log, process.Start()
}

// stop ends it, and waits until it has.
func stop(process *exec.Cmd) {
	_ = process.Process.Signal(syscall.SIGTERM)
	_ = process.Wait()
}
