package promqltest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// pki is a folder with an authority, its revocation list, and a server's and a client's certificate,
// for an hour.
type pki struct {
	folder         string
	server, client *tls.Config
}

func (pki pki) path(name string) string { return filepath.Join(pki.folder, name) }

func newPKI(folder string) (pki, error) {
	made := pki{folder: folder}
	begin, end := time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return made, err
	}
	authority := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority"},
		NotBefore:             begin,
		NotAfter:              end,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		return made, err
	}
	if authority, err = x509.ParseCertificate(der); err != nil {
		return made, err
	}
	if err := made.write("ca.pem", "CERTIFICATE", der); err != nil {
		return made, err
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: begin, NextUpdate: end}
	if der, err = x509.CreateRevocationList(rand.Reader, list, authority, key); err != nil {
		return made, err
	}
	if err := made.write("ca.crl", "X509 CRL", der); err != nil {
		return made, err
	}
	issue := func(name string, leaf *x509.Certificate) (tls.Certificate, error) {
		leaf.Subject = pkix.Name{CommonName: name}
		leaf.NotBefore, leaf.NotAfter = begin, end
		leaf.KeyUsage = x509.KeyUsageDigitalSignature
		leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tls.Certificate{}, err
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, authority, leafKey.Public(), key)
		if err != nil {
			return tls.Certificate{}, err
		}
		if err := made.write(name+".pem", "CERTIFICATE", der); err != nil {
			return tls.Certificate{}, err
		}
		if der, err = x509.MarshalPKCS8PrivateKey(leafKey); err != nil {
			return tls.Certificate{}, err
		}
		if err := made.write(name+".key", "PRIVATE KEY", der); err != nil {
			return tls.Certificate{}, err
		}
		return tls.LoadX509KeyPair(made.path(name+".pem"), made.path(name+".key"))
	}
	server, err := issue("server", &x509.Certificate{
		SerialNumber: big.NewInt(2),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return made, err
	}
	client, err := issue("client", &x509.Certificate{
		SerialNumber: big.NewInt(3),
		DNSNames:     []string{"faroe"},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return made, err
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(authority)
	made.client = &tls.Config{RootCAs: authorities, Certificates: []tls.Certificate{client}}
	made.server = &tls.Config{
		Certificates: []tls.Certificate{server},
		ClientCAs:    authorities,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		NextProtos:   []string{"h2"},
	}
	return made, nil
}

func (pki pki) write(name, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return os.WriteFile(pki.path(name), text, 0o600)
}
