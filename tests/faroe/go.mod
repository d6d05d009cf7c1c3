module faroetest

go 1.25.0

require github.com/faroedev/faroe v0.5.1

require (
	github.com/faroedev/go-json v0.1.1 // indirect
	golang.org/x/sync v0.16.0 // indirect
)
