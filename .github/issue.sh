#!/usr/bin/env bash
# Says in one issue what the watch saw: opens it, updates it, or closes it when nothing is left.
# usage: issue.sh DIRECTORY, which holds the report of `nox -s watch -- --output DIRECTORY`.
# Needs gh, with `issues: write`, and jq; GitHub's runners have both.
set -euo pipefail

directory=$1
label=upstream-watch
noteworthy=$(jq --raw-output '.noteworthy | booleans' "$directory/report.json")
number=$(gh issue list --label "$label" --state open --json number --jq '.[0].number // empty')

case $noteworthy in
true)
    if [ -n "$number" ]; then
        gh issue edit "$number" --body-file "$directory/report.md"
    else
        gh label create "$label" --force --description "What nox -s watch saw"
        gh issue create --label "$label" --body-file "$directory/report.md" \
            --title "Upstream has released something new"
    fi
    ;;
false)
    if [ -n "$number" ]; then
        gh issue close "$number" --comment "The watch sees nothing new any more."
    fi
    ;;
*)
    echo "$directory/report.json does not say whether there is something to report" >&2
    exit 1
    ;;
esac
