{{/* Names and labels of what the chart makes. */}}

{{- define "faroe-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of the release, with the chart's in it. 54 leaves room for the suffixes of names. */}}
{{- define "faroe-sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "faroe-sidecar.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 54 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "faroe-sidecar.serviceAccountName" -}}
{{- if and .Values.serviceAccount.create (eq .Values.mode "user-server") -}}
{{- default (include "faroe-sidecar.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What everything of a release carries. */}}
{{- define "faroe-sidecar.releaseLabels" -}}
app.kubernetes.io/name: {{ include "faroe-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of an object. */}}
{{- define "faroe-sidecar.labels" -}}
{{ include "faroe-sidecar.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
The pods that serve: those of the chart's Deployment, or the pods of another chart that the sidecar
is part of, which have names of their own in the usual labels.
*/}}
{{- define "faroe-sidecar.selectorLabels" -}}
{{- if eq .Values.mode "sidecar" -}}
faroe-sidecar: {{ include "faroe-sidecar.fullname" . }}
{{- else -}}
{{ include "faroe-sidecar.releaseLabels" . }}
app.kubernetes.io/component: user-server
{{- end -}}
{{- end -}}

{{- define "faroe-sidecar.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where a Faroe server in the cluster finds the endpoint. */}}
{{- define "faroe-sidecar.host" -}}
{{ include "faroe-sidecar.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}

{{- define "faroe-sidecar.url" -}}
https://{{ include "faroe-sidecar.host" . }}{{ if ne (int .Values.service.port) 443 }}:{{ .Values.service.port }}{{ end }}{{ .Values.path }}
{{- end -}}

{{/* The Secret with the server's certificate: tls.crt, tls.key. Empty with SPIFFE. */}}
{{- define "faroe-sidecar.serverSecretName" -}}
{{- if eq .Values.certificates.source "existing" -}}
{{ .Values.certificates.secretName }}
{{- else if eq .Values.certificates.source "cert-manager" -}}
{{ include "faroe-sidecar.fullname" . }}-server
{{- end -}}
{{- end -}}

{{/* Whether the chart has a client certificate made for the Faroe server. */}}
{{- define "faroe-sidecar.makesClientCertificate" -}}
{{- if and (eq .Values.certificates.source "cert-manager") .Values.certificates.certManager.client.dnsName -}}
true
{{- end -}}
{{- end -}}

{{/* The Secret with a client certificate for `helm test`. */}}
{{- define "faroe-sidecar.testSecretName" -}}
{{- if .Values.test.clientSecretName -}}
{{ .Values.test.clientSecretName }}
{{- else if include "faroe-sidecar.makesClientCertificate" . -}}
{{ include "faroe-sidecar.fullname" . }}-client
{{- end -}}
{{- end -}}

{{/* Whether there is a Job that migrates. */}}
{{- define "faroe-sidecar.migrates" -}}
{{- if and (eq .Values.mode "user-server") .Values.migration.enabled .Values.store.urlSecret.name -}}
true
{{- end -}}
{{- end -}}
