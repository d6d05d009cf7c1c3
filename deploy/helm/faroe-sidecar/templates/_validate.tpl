{{/*
What the values must be together. Every template that is rendered in both modes goes through it, so
that a mistake is told before anything is installed. No message shows a URL, which may have a
password in it.
*/}}
{{- define "faroe-sidecar.validate" -}}
{{- $v := .Values -}}
{{- $sidecar := eq $v.mode "sidecar" -}}

{{- with $v.store.url -}}
{{- if hasPrefix "sqlite:" . -}}
{{- fail "store.url: an SQLite file is for the sidecars of one host, and pods move: put the URL of a PostgreSQL or MySQL database into a Secret and name it in store.urlSecret" -}}
{{- else if not (regexMatch "^(grpcs?|unix)://" .) -}}
{{- fail "store.url: this is for grpc://, grpcs:// and unix:// alone (the value is not shown): the URL of a database has a password and belongs in a Secret, which store.urlSecret names" -}}
{{- else if contains "@" . -}}
{{- fail "store.url: a gRPC store has no user and no password (the value is not shown)" -}}
{{- end -}}
{{- end -}}
{{- range list $v.store.urlSecret.name $v.migration.urlSecret.name -}}
{{- if not (regexMatch "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$" .) -}}
{{- fail "urlSecret.name: this is no name of a Secret (the value is not shown): the URL of the database goes into a Secret, and its name here" -}}
{{- end -}}
{{- end -}}

{{- if $sidecar -}}
{{- if $v.store.urlSecret.name -}}
{{- fail "store.urlSecret: in mode sidecar the store is a container of the pod: set store.url to grpc://127.0.0.1:PORT or unix:///run/faroe-userstore/NAME" -}}
{{- else if not (regexMatch "^(grpc://(127\\.0\\.0\\.1|localhost|\\[::1\\]):[0-9]+|unix:///run/faroe-userstore/[^/]+)$" $v.store.url) -}}
{{- fail "store.url: in mode sidecar it is grpc://127.0.0.1:PORT or unix:///run/faroe-userstore/NAME" -}}
{{- end -}}
{{- else -}}
{{- if and $v.store.urlSecret.name $v.store.url -}}
{{- fail "store.urlSecret and store.url: name one store, not two" -}}
{{- else if not (or $v.store.urlSecret.name $v.store.url) -}}
{{- fail "store.urlSecret.name: name the Secret that holds the URL of the database; or set store.url to a gRPC store, grpcs://HOST:PORT" -}}
{{- else if hasPrefix "unix:" $v.store.url -}}
{{- fail "store.url: a Unix socket is for mode sidecar" -}}
{{- else if and (hasPrefix "grpc:" $v.store.url) (not (has "--insecure-store" $v.extraArgs)) -}}
{{- fail "store.url: grpc:// is not encrypted: use grpcs://, or say --insecure-store in extraArgs" -}}
{{- end -}}
{{- end -}}
{{- if and $v.store.tls.clientCertificate (not $v.store.tls.secretName) -}}
{{- fail "store.tls.secretName: store.tls.clientCertificate is on, so name the Secret that has the certificate" -}}
{{- end -}}
{{- if and $v.store.tls.secretName $v.store.url (not (hasPrefix "grpcs:" $v.store.url)) -}}
{{- fail "store.tls: this store is without TLS: only grpcs:// and a database use it" -}}
{{- end -}}

{{- if not (or $v.allowClients (include "faroe-sidecar.makesClientCertificate" .)) -}}
{{- fail "allowClients: say who may call, such as dns:faroe.example.com or uri:spiffe://example.org/ns/faroe/sa/faroe" -}}
{{- end -}}
{{- if and (eq $v.certificates.source "existing") (not $v.certificates.secretName) -}}
{{- fail "certificates.secretName: name the Secret with tls.crt and tls.key of the server; or set certificates.source to cert-manager or spiffe" -}}
{{- end -}}
{{- if and $v.certificates.clientCA.crlKey (not $v.certificates.clientCA.secretName) -}}
{{- fail "certificates.clientCA.secretName: clientCA.crlKey is set, so name the Secret that has the lists" -}}
{{- end -}}

{{- if ge (int $v.drain.delaySeconds) (int $v.drain.timeoutSeconds) -}}
{{- fail "drain.delaySeconds: it is part of drain.timeoutSeconds and has to be less" -}}
{{- end -}}
{{- if eq (int $v.ports.https) (int $v.ports.admin) -}}
{{- fail "ports: https and admin cannot be one port" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas: it is more than maxReplicas" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.faroe) -}}
{{- fail "networkPolicy.faroe: say which pods are the Faroe server, such as [{podSelector: {matchLabels: {app: faroe}}}]; without it nobody could call. networkPolicy.enabled=false leaves the pods open" -}}
{{- end -}}

{{- range $v.extraArgs -}}
{{- if not (regexMatch "^--[a-z][-a-z0-9]*(=|$)" .) -}}
{{- fail "extraArgs: an entry is no option (it is not shown): write --NAME=VALUE" -}}
{{- else if regexMatch "://[^/]*@" . -}}
{{- fail "extraArgs: a URL with a password has no place in a manifest (it is not shown)" -}}
{{- else if regexMatch "^--(listen|path|tls-cert|tls-key|client-ca|client-crl|allow-client|admin-listen|store|store-file|store-timeout|store-ca|store-cert|store-key|drain-delay|drain-timeout)(=|$)" . -}}
{{- fail (printf "extraArgs: %s is set by the chart, from another value" (. | splitList "=" | first)) -}}
{{- end -}}
{{- end -}}
{{- range $v.extraEnv -}}
{{- if hasPrefix "FAROE_SIDECAR_" .name -}}
{{- fail (printf "extraEnv: %s: give options of the program in extraArgs" .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
