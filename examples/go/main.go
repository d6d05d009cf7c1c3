// Command userstore serves the users of a PostgreSQL database as a
// faroe.userstore.v1.UserStore. This file is the program around the store,
// which is in store.go.
package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"userstore/userstorev1"
)

//go:generate buf generate

//go:embed schema.sql
var schema string

func main() {
	if err := run(); err != nil {
		slog.Error("userstore cannot run", "error", err)
		os.Exit(1)
	}
}

func run() error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()

	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("DATABASE_URL is not set: postgres://USER:PASSWORD@HOST/DATABASE")
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer db.Close()
	// Calls beyond this wait for a connection until their deadline. The pool
	// keeps them all: opening one costs more than most calls.
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	if _, err := db.ExecContext(stop, schema); err != nil {
		return fmt.Errorf("create the table users: %w", err)
	}

	listener, err := listen(os.Getenv("LISTEN"))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	userstorev1.RegisterUserStoreServer(server, &store{db: db})
	status := health.NewServer()
	status.SetServingStatus(userstorev1.UserStore_ServiceDesc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, status)

	go func() {
		<-stop.Done()
		status.Shutdown() // no longer serving, for those who watch
		cut := time.AfterFunc(10*time.Second, server.Stop)
		defer cut.Stop()
		server.GracefulStop() // the calls in hand finish
	}()
	fmt.Println("listening on", address(listener))
	return server.Serve(listener)
}

// listen opens HOST:PORT or unix:///PATH.
func listen(at string) (net.Listener, error) {
	if at == "" {
		at = "127.0.0.1:50051"
	}
	path, isUnix := strings.CutPrefix(at, "unix://")
	if !isUnix {
		return net.Listen("tcp", at)
	}
	// What a crash has left behind is in the way.
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	return net.Listen("unix", path)
}

func address(listener net.Listener) string {
	if listener.Addr().Network() == "unix" {
		return "unix://" + listener.Addr().String()
	}
	return listener.Addr().String()
}
